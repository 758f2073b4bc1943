"""Containers as they were: the same objects in the same places, restored in the container itself."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from operator import is_
from types import CellType
from typing import Any, Protocol

import numpy as np
import torch

__all__ = [
    "Kept",
    "KeptArray",
    "KeptCell",
    "KeptClass",
    "KeptList",
    "KeptMapping",
    "KeptObject",
    "KeptSet",
    "KeptSlots",
    "KeptStream",
]

_NOTHING: Any = object()


class Kept(Protocol):
    """Something with contents that can be put back."""

    def restore(self) -> None:
        """Puts the contents back as they were."""

    def contents(self) -> Iterable[Any]:
        """What it held."""

    def replace(self, old: Any, new: Any) -> None:
        """Puts ``new`` wherever ``old`` was, until ``restore``."""


def _same(now: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(map(is_, now, before))


class KeptMapping:
    """The keys and values of a dict, in order."""

    def __init__(self, mapping: dict[Any, Any]) -> None:
        self.mapping = mapping
        self._keys, self._values = list(mapping), list(mapping.values())

    def contents(self) -> Iterator[Any]:
        yield from self._keys
        yield from self._values

    def now(self) -> Iterable[Any]:
        """What it holds at present."""
        return list(self.mapping.values())

    def changed(self) -> bool:
        """Whether any entry is another than before."""
        mapping, keys = self.mapping, self._keys
        return len(mapping) != len(keys) or not (_same(mapping, keys) and _same(mapping.values(), self._values))

    def restore(self) -> None:
        if not self.changed():
            return
        # The methods of the base: a subclass may do more on each assignment.
        # An OrderedDict keeps its order in a list of its own, which the methods of dict would leave behind.
        kind: Any = OrderedDict if isinstance(self.mapping, OrderedDict) else dict
        kind.clear(self.mapping)
        for key, value in zip(self._keys, self._values, strict=True):
            kind.__setitem__(self.mapping, key, value)

    def replace(self, old: Any, new: Any) -> None:
        for key, value in zip(self._keys, self._values, strict=True):
            if value is old:
                dict.__setitem__(self.mapping, key, new)


class KeptObject(KeptMapping):
    """The attributes and the class of an object."""

    def __init__(self, owner: Any) -> None:
        super().__init__(vars(owner))
        self._owner, self._kind = owner, type(owner)

    def restore(self) -> None:
        # A run may have given the object another dict; others may hold the former one, so that very dict goes back.
        if vars(self._owner) is not self.mapping:
            object.__setattr__(self._owner, "__dict__", self.mapping)
        super().restore()
        if type(self._owner) is not self._kind:  # lazy modules become what they were waiting to be
            object.__setattr__(self._owner, "__class__", self._kind)


class KeptSlots:
    """The attributes of an object that has slots in place of a dict."""

    def __init__(self, owner: Any, names: Iterable[str]) -> None:
        self._owner = owner
        self._values = {name: getattr(owner, name, _NOTHING) for name in names}

    def contents(self) -> Iterable[Any]:
        return self._values.values()

    def restore(self) -> None:
        for name, value in self._values.items():
            now = getattr(self._owner, name, _NOTHING)
            if now is not value:
                self._set(name, value)

    def replace(self, old: Any, new: Any) -> None:
        for name, value in self._values.items():
            if value is old:
                self._set(name, new)

    def _set(self, name: str, value: Any) -> None:
        if value is _NOTHING:
            # Past the methods of the class itself, which may refuse (a frozen dataclass).
            object.__delattr__(self._owner, name)
        else:
            object.__setattr__(self._owner, name, value)


class KeptClass:
    """The data among the attributes of a class: what instances share."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self._before = _data(kind)

    def contents(self) -> Iterable[Any]:
        return self._before.values()

    def now(self) -> Iterable[Any]:
        """What it holds at present."""
        return _data(self.kind).values()

    def restore(self) -> None:
        now = _data(self.kind)
        for name in now.keys() - self._before.keys():
            delattr(self.kind, name)
        for name, value in self._before.items():
            if now.get(name, _NOTHING) is not value:
                setattr(self.kind, name, value)

    def replace(self, old: Any, new: Any) -> None:
        for name, value in self._before.items():
            if value is old:
                setattr(self.kind, name, new)


def _data(kind: type) -> dict[str, Any]:
    """Attributes but those that Python itself keeps there."""
    return {name: value for name, value in vars(kind).items() if not name.startswith(("__", "_abc_"))}


class KeptList:
    """The elements of a list or a deque."""

    def __init__(self, elements: list[Any] | deque[Any]) -> None:
        self._list, self._before = elements, list(elements)

    def contents(self) -> Iterable[Any]:
        return self._before

    def now(self) -> Iterable[Any]:
        """What it holds at present."""
        return list(self._list)

    def restore(self) -> None:
        if len(self._list) != len(self._before) or not _same(self._list, self._before):
            kind: Any = deque if isinstance(self._list, deque) else list
            kind.clear(self._list)
            kind.extend(self._list, self._before)

    def replace(self, old: Any, new: Any) -> None:
        for place, value in enumerate(self._before):
            if value is old:
                self._list[place] = new


class KeptSet:
    """The elements of a set."""

    def __init__(self, elements: set[Any]) -> None:
        self._set, self._before = elements, list(elements)

    def contents(self) -> Iterable[Any]:
        return self._before

    def restore(self) -> None:
        # By identity, as everywhere here: an element that is equal and another object is a change.
        if len(self._set) != len(self._before) or {id(x) for x in self._set} != {id(x) for x in self._before}:
            set.clear(self._set)
            set.update(self._set, self._before)

    def replace(self, old: Any, new: Any) -> None:
        if any(value is old for value in self._before):
            set.discard(self._set, old)
            set.add(self._set, new)


class KeptCell:
    """A variable that a function shares with the place where it was written."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell
        self._before = _read(cell)

    def contents(self) -> Iterable[Any]:
        return () if self._before is _NOTHING else (self._before,)

    def restore(self) -> None:
        if _read(self._cell) is self._before:
            return
        if self._before is _NOTHING:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self._before

    def replace(self, old: Any, new: Any) -> None:
        if self._before is old:
            self._cell.cell_contents = new


def _read(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _NOTHING


class KeptArray:
    """The values of a numpy array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array, self._before = array, array.copy()

    def contents(self) -> Iterable[Any]:
        return self._before.flat if self._before.dtype == object else ()

    def restore(self) -> None:
        # Bytes, because nan differs from itself.
        if self._array.dtype == object or self._array.tobytes() != self._before.tobytes():
            self._array[...] = self._before

    def replace(self, old: Any, new: Any) -> None:
        """Arrays hold no tensors that could be replaced."""


class KeptStream:
    """The state of a generator of random numbers that the model owns."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._before = _stream_state(generator)

    def contents(self) -> Iterable[Any]:
        return ()

    def restore(self) -> None:
        if isinstance(self._generator, torch.Generator):
            self._generator.set_state(self._before)
        elif isinstance(self._generator, random.Random):
            self._generator.setstate(self._before)
        elif isinstance(self._generator, np.random.Generator):
            self._generator.bit_generator.state = self._before
        else:
            self._generator.set_state(self._before)

    def replace(self, old: Any, new: Any) -> None:
        """A stream holds no tensors that could be replaced."""


def _stream_state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()
