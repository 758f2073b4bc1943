"""The slices of a whole tensor, as a part of it sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralmechanics.monitor.processes.holding import Indices
from neuralmechanics.slices import SliceView

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class LocalView:
    """A view of a part of a tensor: `whole[k]` is the slice of the whole that the part's slice k lies in.

    `aligned`: the part holds the same places of each of its slices, so that products of two slices are meaningful.
    """

    view: SliceView
    whole: Numbers
    aligned: bool


@dataclass(frozen=True, eq=False)
class _Piece:
    """Dimensions of the local view: their sizes, and where they are kept, what their index adds to the slice's."""

    sizes: tuple[int, ...]
    adds: tuple[Numbers | None, ...]
    aligned: bool = True


def local_view(view: SliceView, shape: Sequence[int], indices: Indices) -> LocalView:
    """A view of a tensor of this shape, for the part of it at `indices`.

    Dimensions of the view that the cut runs through become those of the tensor itself, all of them kept where one
    was: a slice of the whole then is the sum of several of the part.
    """
    sizes = [view.shape[k] for k in view.kept]
    strides = {k: math.prod(sizes[place + 1 :]) for place, k in enumerate(view.kept)}
    pieces = [_piece(view, shape, indices, strides, *group) for group in _groups(shape, view.shape)]
    whole = np.zeros(1, dtype=np.int64)
    kept: list[int] = []
    local: list[int] = []
    for piece in pieces:
        joint = piece.adds[0] if len(piece.adds) < len(piece.sizes) else None
        for place, size in enumerate(piece.sizes):
            add = joint if joint is not None else piece.adds[place]
            if add is not None:
                kept.append(len(local))
            if add is not None and (joint is None or place == 0):
                whole = (whole[:, None] + add[None, :]).reshape(-1)
            local.append(size)
    found = SliceView(view.parameter, tuple(local), tuple(kept))
    return LocalView(found, whole, all(piece.aligned for piece in pieces))


def _piece(
    view: SliceView,
    shape: Sequence[int],
    indices: Indices,
    strides: dict[int, int],
    of_tensor: Sequence[int],
    of_view: Sequence[int],
) -> _Piece:
    """A group of dimensions of the tensor that is a group of dimensions of the view."""

    def adds(dimension: int, at: Numbers) -> Numbers | None:
        return at * strides[dimension] if dimension in strides else None

    sizes = [view.shape[k] for k in of_view]
    if all(len(indices[d]) == shape[d] for d in of_tensor):
        return _Piece(tuple(sizes), tuple(adds(k, np.arange(n)) for k, n in zip(of_view, sizes, strict=True)))
    if len(of_tensor) == 1:
        held, inner = indices[of_tensor[0]], math.prod(sizes[1:])
        start = int(held[0]) if len(held) else 0
        straight = len(held) > 0 and bool((np.diff(held) == 1).all())
        if inner == 1 or (straight and start % inner == 0 and len(held) % inner == 0):
            first = held if inner == 1 else start // inner + np.arange(len(held) // inner)
            others = [adds(k, np.arange(n)) for k, n in zip(of_view[1:], sizes[1:], strict=True)]
            return _Piece((len(first), *sizes[1:]), (adds(of_view[0], first), *others))
    flat = np.zeros(1, dtype=np.int64)
    for d in of_tensor:
        flat = (flat[:, None] * shape[d] + indices[d][None, :]).reshape(-1)
    places = np.unravel_index(flat, sizes)
    inside = [k for k in of_view if k in strides]
    total = sum((places[of_view.index(k)] * strides[k] for k in inside), np.zeros(len(flat), dtype=np.int64))
    held_sizes = tuple(len(indices[d]) for d in of_tensor)
    aligned = not inside or all(k in strides for k, n in zip(of_view, sizes, strict=True) if n > 1)
    if not inside:
        return _Piece(held_sizes, (None,) * len(held_sizes))
    return _Piece(held_sizes, (total,), aligned)


def _groups(shape: Sequence[int], seen: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of dimensions of two shapes of one tensor that hold the same elements."""
    i = j = 0
    while i < len(shape) or j < len(seen):
        left, right = [], []
        if i < len(shape):
            left, i = [i], i + 1
        if j < len(seen):
            right, j = [j], j + 1
        while math.prod(shape[k] for k in left) != math.prod(seen[k] for k in right):
            if math.prod(shape[k] for k in left) < math.prod(seen[k] for k in right):
                left, i = [*left, i], i + 1
            else:
                right, j = [*right, j], j + 1
        yield left, right
