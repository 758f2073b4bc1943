"""Every slice of a tensor as a row or a column of one matrix, so that one read of it gives all slice sums."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuralmechanics.slices.views import SliceView

__all__ = ["MatrixLayout", "matrix_layouts"]

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class MatrixLayout:
    """A tensor's elements, in their order, as a matrix, and which slice of each view a row or a column belongs to.

    A view that keeps dimensions of the front alone is a sum of row sums, one that keeps dimensions of the back alone a
    sum of column sums. Channels in and out of a convolution: rows are filters, columns (channel, height, width).
    """

    rows: int
    columns: int
    by_rows: tuple[bool, ...]
    slices: tuple[Indices, ...]
    """one a view: the slice that each row, or each column, belongs to"""
    order: tuple[int, ...] | None = None
    """the tensor's dimensions as the matrix has them; None for their own order"""

    @property
    def sums_rows(self) -> bool:
        """Whether any view is made of row sums."""
        return any(self.by_rows)

    @property
    def sums_columns(self) -> bool:
        """Whether any view is made of column sums."""
        return not all(self.by_rows)


def matrix_layouts(
    views: Sequence[SliceView], shape: Sequence[int], order: Sequence[int] | None = None
) -> list[tuple[MatrixLayout, list[int]]]:
    """Layouts that hold all views of a tensor, each with the positions of its views: one where one will do.

    `order`: the dimensions of `shape` as they lie in memory, where that is not their own order (channels last).

    >>> rows, columns = SliceView("w", (4, 3, 2, 2), (0,)), SliceView("w", (4, 3, 2, 2), (1,))
    >>> [(layout, held)] = matrix_layouts([rows, columns], (4, 3, 2, 2))
    >>> layout.rows, layout.columns, layout.by_rows, layout.slices[1].tolist()
    (4, 12, (True, False), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    """
    # Where a view does not fit the dimensions as they lie in memory, it reads a copy in their own order.
    whole = _layout(views, shape, order) or _layout(views, shape, None)
    if whole is not None:
        return [(whole, list(range(len(views))))]
    single = [_layout([view], shape, order) or _layout([view], shape, None) for view in views]
    return [(layout, [k]) for k, layout in enumerate(single) if layout is not None]


def _layout(views: Sequence[SliceView], shape: Sequence[int], order: Sequence[int] | None) -> MatrixLayout | None:
    """One layout of all views; None where their shapes cut the tensor in ways that do not fit each other."""
    sizes = _refined([*(view.shape for view in views), *([tuple(shape)] if order is not None else [])])
    if sizes is None:
        return None
    kept = [_kept_pieces(view, sizes) for view in views]
    places = list(range(len(sizes)))
    if order is not None:
        pieces = _pieces(tuple(shape), sizes)
        places = [place for d in order for place in pieces[d]]
    in_memory = [frozenset(places.index(k) for k in pieces) for pieces in kept]
    lengths = [sizes[place] for place in places]
    split = _split(lengths, in_memory)
    rows, columns = math.prod(lengths[:split]), math.prod(lengths[split:])
    by_rows = tuple(all(k < split for k in each) for each in in_memory)
    slices = tuple(
        # Sorted: charges number slices by the view's own dimensions, however the tensor lies in memory.
        _slice_of(each, [places.index(k) for k in sorted(pieces)], lengths, split)
        for each, pieces in zip(by_rows, kept, strict=True)
    )
    return MatrixLayout(rows, columns, by_rows, slices, None if order is None else tuple(order))


def _refined(shapes: Sequence[tuple[int, ...]]) -> list[int] | None:
    """The coarsest shape that every one of the shapes is a grouping of; None where there is none."""
    # A shape cuts the row-major index at the products of its last dimensions. Shapes have a common refinement exactly
    # where all these products, in order of size, divide one another.
    cuts = {1}
    for shape in shapes:
        cuts |= {math.prod(shape[k:]) for k in range(len(shape))}
    ordered = sorted(cuts)
    if any(big % small for small, big in itertools.pairwise(ordered)) or 0 in cuts:
        return None
    if any(math.prod(shape) != ordered[-1] for shape in shapes):
        return None
    return [big // small for small, big in itertools.pairwise(ordered)][::-1]


def _pieces(shape: tuple[int, ...], sizes: Sequence[int]) -> list[list[int]]:
    """The refined dimensions that each dimension of a shape consists of."""
    out: list[list[int]] = []
    at = 0
    for length in shape:
        found: list[int] = []
        # A dimension of length one consists of no piece: to fix its index fixes nothing.
        while math.prod(sizes[k] for k in found) < length:
            found.append(at)
            at += 1
        out.append(found)
    return out


def _kept_pieces(view: SliceView, sizes: Sequence[int]) -> list[int]:
    pieces = _pieces(view.shape, sizes)
    return [piece for d in view.kept for piece in pieces[d]]


def _split(lengths: Sequence[int], kept: Sequence[frozenset[int]]) -> int:
    """Where to cut into rows and columns: each view keeps one side alone, and the fewest sums are kept.

    Where no cut does that, after the last dimension that is kept: rows alone always do.
    """
    fitting = [
        k
        for k in range(len(lengths) + 1)
        if all(all(d < k for d in each) or all(d >= k for d in each) for each in kept)
    ]
    if not fitting:
        return 1 + max(max(each, default=-1) for each in kept)
    return min(fitting, key=lambda k: (math.prod(lengths[:k]) + math.prod(lengths[k:]), math.prod(lengths[:k])))


def _slice_of(by_rows: bool, kept: Sequence[int], lengths: Sequence[int], split: int) -> Indices:
    """The slice of each row, or column: the row-major number of its indices along the kept dimensions."""
    start, side = (0, lengths[:split]) if by_rows else (split, lengths[split:])
    out: Indices = np.zeros(math.prod(side), dtype=np.int64)
    places = np.indices(tuple(side), dtype=np.int64).reshape(len(side), -1) if side else None
    for d in kept:
        assert places is not None
        out = out * lengths[d] + places[d - start]
    return out
