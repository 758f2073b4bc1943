"""Where channels stand along a dimension of a tensor: copy by copy, channel by channel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.symmetry.families.spaces import Entry

__all__ = ["Place"]


@dataclass(frozen=True, eq=False)
class Place:
    """Positions along ``axis``, of shape [copies, width, rest]: one row a channel of each head, expert or group.

    ``beside``: further dimensions along which the number of a copy stands, with its positions there [copies, …].
    ``shape``: the tensor is seen with this shape, where that is not its own.

    >>> Place.whole(1, 3).positions.tolist()
    [[[0], [1], [2]]]
    """

    axis: int
    positions: np.ndarray
    beside: tuple[tuple[int, np.ndarray], ...] = ()
    shape: tuple[int, ...] | None = None

    @classmethod
    def whole(cls, axis: int, width: int) -> Place:
        """All of the dimension, one channel a position."""
        return cls(axis, np.arange(width).reshape(1, width, 1))

    @classmethod
    def of(cls, entry: Entry, copies: Sequence[int]) -> Place:
        """The place of a space's entry, for each of its copies."""
        each = list(itertools.product(*(range(n) for n in copies)))
        beside = (
            (place.axis, np.stack([place.positions(copy).reshape(-1) for copy in each])) for place in entry.beside
        )
        return cls(entry.axis, np.stack([entry.place.positions(copy) for copy in each]), tuple(beside))

    @property
    def copies(self) -> int:
        """How many copies there are."""
        return int(self.positions.shape[0])

    @property
    def width(self) -> int:
        """Channels of a copy."""
        return int(self.positions.shape[1])

    @property
    def axes(self) -> frozenset[int] | None:
        """The dimensions whose entries are told apart: along the others a tensor may be taken piece by piece."""
        return None if self.shape is not None else frozenset({self.axis, *(axis for axis, _ in self.beside)})

    def covers(self, size: int) -> bool:
        """Whether it is the whole dimension of that size, in its order, for one copy."""
        return not self.beside and self.copies == 1 and self._in_order(size) and self.width == size

    def changed(self, tensor: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
        """The tensor with the channels of each copy, as rows of a matrix, replaced by what ``change`` makes of them."""
        if self.shape is not None:
            return replace(self, shape=None).changed(tensor.reshape(self.shape), change).reshape(tensor.shape)
        if self.covers(tensor.shape[self.axis]):
            rows = tensor.movedim(self.axis, 0)
            return change(rows.reshape(len(rows), -1), 0).reshape(rows.shape).movedim(0, self.axis)
        out = tensor.clone()
        for copy in range(self.copies):
            index = self._index(tensor, copy)
            rows = tensor[index].movedim(self.axis, 0)
            new = change(rows.reshape(self.width, -1), copy).reshape(rows.shape)
            out[index] = new.movedim(0, self.axis)
        return out

    def _in_order(self, size: int) -> bool:
        return self._sorted and self.positions.size == size and self.positions.shape[2] == 1

    @cached_property
    def _sorted(self) -> bool:
        flat = self.positions.reshape(-1)
        return bool((flat == np.arange(len(flat))).all())

    def _index(self, tensor: Tensor, copy: int) -> tuple[Tensor, ...]:
        chosen = [torch.arange(n) for n in tensor.shape]
        for axis, found in ((self.axis, self.positions), *self.beside):
            chosen[axis] = torch.as_tensor(found[copy].reshape(-1))
        rank = tensor.ndim
        return tuple(
            index.reshape([-1 if k == d else 1 for k in range(rank)]).to(tensor.device)
            for d, index in enumerate(chosen)
        )
