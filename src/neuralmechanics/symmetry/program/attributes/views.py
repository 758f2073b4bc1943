"""Rearrangements of a tensor, acting on compressed label arrays as they act on the data.

A compressed array of a tensor with shape (n_0, …) has in each dimension either n_d entries or one: one entry means that
the label is the same along the dimension. Batch and position axes so cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Expand", "Permute", "Reshape", "Take", "View", "dimension_groups", "paired_rows", "squeezed"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """Row-major reshape to ``shape`` (squeeze, unsqueeze, flatten, view)."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape

    def apply(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """Only groups of dimensions that are really merged or split, and not constant, are written out."""
        pieces: list[int] = []
        full: list[int] = list(array.shape)
        for inside, outside in dimension_groups(shape, self.shape):
            # A label that is constant over the whole group stays one entry: no batch and no sequence is written out.
            if all(array.shape[d] == 1 for d in inside):
                pieces += [1] * len(outside)
            else:
                for d in inside:
                    full[d] = shape[d]
                pieces += [self.shape[d] for d in outside]
        return np.broadcast_to(array, full).reshape(pieces)


@dataclass(frozen=True)
class Permute:
    """Dimension k of the output is dimension ``order[k]`` of the input."""

    order: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape[d] for d in self.order)

    def apply(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        return array.transpose(self.order)


@dataclass(frozen=True)
class Expand:
    """Broadcast to ``shape``, new dimensions in front."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape

    def apply(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        return array.reshape((1,) * (len(self.shape) - array.ndim) + array.shape)


@dataclass(frozen=True)
class Take:
    """The given positions along one dimension (slice, narrow, flip, roll, index_select with known indices)."""

    dim: int
    positions: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[: self.dim], len(self.positions), *shape[self.dim + 1 :])

    def apply(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        # One entry stands for all along the dimension, whichever are taken.
        if array.shape[self.dim] == 1:
            return array
        return array.take(np.asarray(self.positions, dtype=np.int64), axis=self.dim)


def squeezed(ids: np.ndarray, rank: int | None = None) -> np.ndarray:
    """``ids`` with one entry along every dimension (of the first ``rank``) where all entries are equal."""
    for d in range(ids.ndim if rank is None else rank):
        if ids.shape[d] > 1:
            first = ids[(slice(None),) * d + (slice(0, 1),)]
            if (ids == first).all():
                ids = first
    return ids


def paired_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rows (left, right) of two arrays that broadcast against each other."""
    return np.stack([left.reshape(-1), np.broadcast_to(right, left.shape).reshape(-1)], axis=1)


View = Reshape | Permute | Expand | Take


def dimension_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The finest matching of consecutive input and output dimensions with equal products.

    >>> dimension_groups((2, 3, 4), (2, 12))
    [([0], [0]), ([1, 2], [1])]
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    # Products over no entries are all zero and tell no dimension from another.
    if 0 in before or 0 in after:
        return [(list(range(len(before))), list(range(len(after))))]
    while i < len(before) or j < len(after):
        inside: list[int] = []
        outside: list[int] = []
        if i < len(before):
            inside.append(i)
            i += 1
        if j < len(after):
            outside.append(j)
            j += 1
        while math.prod(before[d] for d in inside) != math.prod(after[d] for d in outside):
            if math.prod(before[d] for d in inside) < math.prod(after[d] for d in outside):
                inside.append(i)
                i += 1
            else:
                outside.append(j)
                j += 1
        groups.append((inside, outside))
    return groups
