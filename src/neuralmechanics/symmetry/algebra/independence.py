"""Which columns of a sparse matrix are linearly independent of those before them."""

from __future__ import annotations

import heapq

import numpy as np
from scipy import sparse

from neuralmechanics.symmetry.algebra.sets import distinct

__all__ = ["independent_columns"]

_MIXED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)  # odd, with bits all over
_ZERO = 1e-8  # what is left of a column of unit size when all of it cancels


def independent_columns(matrix: sparse.csr_matrix) -> np.ndarray:
    """The columns that are linearly independent of all columns before them, in order: a basis of the column space.

    A column with an entry in a row that no other column enters is independent of all others, whatever they are; with
    those set aside, others have such an entry. In networks this leaves few columns, and these are eliminated one after
    the other, as sparse as they are. Entries below 1e-8 of the greatest of their column count as zero.

    >>> independent_columns(sparse.csr_matrix([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])).tolist()
    [0, 2]
    """
    rows, columns, values = _distinct_rows(matrix)
    size = np.zeros(matrix.shape[1])
    np.maximum.at(size, columns, np.abs(values))
    apart: list[np.ndarray] = []
    while len(columns):
        alone = np.bincount(rows)[rows] == 1
        found = distinct(columns[alone])
        left = ~np.isin(columns, found)
        # A round costs as much as what is left. While each removes an eighth, all rounds together cost a multiple of
        # the first; one that removes less is no better than elimination.
        if 8 * left.sum() > 7 * len(columns):
            break
        apart.append(found)
        rows, columns, values = rows[left], columns[left], values[left]
    # Divided by their greatest entries, so that one threshold for zero means the same in every column.
    return np.sort(np.concatenate([*apart, _eliminated(rows, columns, values / size[columns])]).astype(np.int64))


def _distinct_rows(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of the entries, of equal rows the first alone."""
    matrix = sparse.csr_matrix(matrix)
    matrix.eliminate_zeros()
    # Equal rows add nothing to the rank. Their products with random columns have the same bits, so they are found
    # without comparing rows; the seed is fixed, or two searches of one model could differ.
    probes = np.random.default_rng(0).standard_normal((matrix.shape[1], 2))
    bits = np.ascontiguousarray(matrix @ probes).view(np.uint64)
    # One whole number stands for both products: numbers are sorted many times as fast as rows.
    _, first = np.unique(bits @ _MIXED, return_index=True)
    kept = matrix[first].tocoo()
    return kept.row.astype(np.int64), kept.col.astype(np.int64), kept.data


def _eliminated(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The independent columns, by elimination from the left."""
    uses = np.bincount(rows)
    order = np.argsort(columns, kind="stable")
    edges = np.flatnonzero(np.diff(columns[order], prepend=-1, append=-1)) if len(order) else np.zeros(1, np.int64)
    reduced: list[dict[int, float]] = []  # each one at its pivot, and zero at the pivots before it
    pivots: dict[int, int] = {}  # by row, the number of the reduced column
    kept = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        chosen = order[start:end]
        rest = dict(zip(rows[chosen].tolist(), values[chosen].tolist(), strict=True))
        _reduce(rest, reduced, pivots)
        if rest:
            # The row that fewest columns enter: fewest of those to come will have to be reduced by this one.
            pivot = min(rest, key=lambda row: (uses[row], row))
            pivots[pivot] = len(reduced)
            reduced.append({row: value / rest[pivot] for row, value in rest.items()})
            kept.append(int(columns[chosen[0]]))
    return np.asarray(kept, dtype=np.int64)


def _reduce(column: dict[int, float], reduced: list[dict[int, float]], pivots: dict[int, int]) -> None:
    """Takes from a column what those before it make of it."""
    # In the order in which the pivots were made: a reduced column is zero at the pivots before its own, and so
    # cannot bring back an entry that has been cleared.
    waiting = [(pivots[row], row) for row in column if row in pivots]
    heapq.heapify(waiting)
    while waiting:
        number, pivot = heapq.heappop(waiting)
        factor = column.pop(pivot, 0.0)
        if not factor:
            continue
        for row, value in reduced[number].items():
            if row == pivot:
                continue
            if row in pivots and row not in column:
                heapq.heappush(waiting, (pivots[row], row))
            total = column.get(row, 0.0) - factor * value
            if abs(total) > _ZERO:
                column[row] = total
            else:
                column.pop(row, None)
