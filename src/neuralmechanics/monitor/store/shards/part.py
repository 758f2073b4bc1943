"""The records of one shard as they were measured: each array is read and expanded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from neuralmechanics.monitor.store.shards.compact import LAW_PREFIX, expanded_array, expanded_names
from neuralmechanics.monitor.store.shards.schema import ERROR_PREFIX
from neuralmechanics.monitor.store.shards.stored import Array, StoredArrays

# Neighbouring records are asked for one after the other, and stand in one shard.
_RECENT = 256 << 20


class Recent:
    """The arrays that were asked for last, as many as fit into 256 MB."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], Array] = {}
        self._bytes = 0

    def get(self, key: tuple[int, str]) -> Array | None:
        """An array that is still there, which is the last to go now."""
        array = self._kept.pop(key, None)
        if array is not None:
            self._kept[key] = array
        return array

    def put(self, key: tuple[int, str], array: Array) -> None:
        """Keep an array; those that were not asked for longest make room."""
        if array.nbytes > _RECENT:
            return
        before = self._kept.pop(key, None)
        self._bytes += array.nbytes - (0 if before is None else before.nbytes)
        self._kept[key] = array
        while self._bytes > _RECENT:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes

    def __reduce__(self) -> tuple[type[Recent], tuple[()]]:
        return Recent, ()


class Part(Mapping[str, Array]):
    """Records one after the other: arrays with one row a record, those under `drives/` with one a step.

    `stored`: the arrays as they are written, see `compacted` and `narrowed`. The laws' state is none of a part.
    What is read is not to be written to.
    """

    def __init__(self, stored: Mapping[str, Array], number: int = 0, recent: Recent | None = None) -> None:
        self._stored = stored
        self._number = number
        self._recent = recent

    @cached_property
    def _names(self) -> dict[str, None]:
        return dict.fromkeys(expanded_names(self._stored))

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        key = (self._number, name)
        array = None if self._recent is None else self._recent.get(key)
        if array is None:
            array = expanded_array(self._stored, name, lambda: self["charge"])
            if self._recent is not None:
                self._recent.put(key, array)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @cached_property
    def count(self) -> int:
        """How many records there are."""
        return self._shape("step")[0]

    def width(self, name: str) -> int:
        """How many entries a row of an array has, without reading it: one a charge, or one for all."""
        if name not in self._stored:
            away = ERROR_PREFIX + name.removeprefix(LAW_PREFIX)
            return self.width(away if name.startswith(LAW_PREFIX) else "charge")
        return int(np.prod(self._shape(name)[1:]))

    def _shape(self, name: str) -> tuple[int, ...]:
        if isinstance(self._stored, StoredArrays):
            return self._stored.kind(name).shape
        shape: tuple[int, ...] = np.shape(self._stored[name])
        return shape
