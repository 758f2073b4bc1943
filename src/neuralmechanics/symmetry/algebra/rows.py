"""Tables of whole numbers, one row an equation: which rows are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["distinct_along", "row_counts", "row_kinds", "unique_rows", "unique_rows_inverse"]


def unique_rows(table: np.ndarray) -> np.ndarray:
    """The different rows of a table, in lexicographic order.

    >>> unique_rows(np.array([[2, 1], [0, 5], [2, 1]])).tolist()
    [[0, 5], [2, 1]]
    """
    if len(table) < 2:
        return table
    order = np.lexsort(table.T[::-1])
    ordered = table[order]
    new = np.ones(len(table), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[new]


def unique_rows_inverse(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of a table, in lexicographic order, and for each of its rows which of them it is."""
    order = np.lexsort(table.T[::-1])
    ordered = table[order]
    new = np.ones(len(table), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(table), dtype=np.int64)
    inverse[order] = np.cumsum(new) - 1
    return ordered[new], inverse


def row_counts(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of a table, and how often each occurs.

    >>> [found.tolist() for found in row_counts(np.array([[2, 1], [0, 5], [2, 1]]))]
    [[[0, 5], [2, 1]], [1, 2]]
    """
    if table.shape[1] == 1:
        values, counts = np.unique(table[:, 0], return_counts=True)
        return values[:, None], counts
    kinds, inverse = unique_rows_inverse(table)
    return kinds, np.bincount(inverse)


def row_kinds(pattern: np.ndarray, bound: int) -> list[np.ndarray]:
    """For each different row of a table of whole numbers from 0 to ``bound``, the rows that are like it."""
    code = np.zeros(len(pattern), dtype=np.int64)
    room = 1
    for column in range(pattern.shape[1]):
        if room > np.iinfo(np.int64).max // (bound + 1):  # numbers of so many digits: by what they are so far
            _, code = np.unique(code, return_inverse=True)
            room = len(pattern)
        code = code * (bound + 1) + pattern[:, column]
        room *= bound + 1
    order = np.argsort(code, kind="stable")
    edges = np.flatnonzero(np.diff(code[order])) + 1
    return np.split(order, edges)


def distinct_along(arrays: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """Places along ``dim``, the first among them, at which all that arrays of equal rank hold there occurs once.

    Slices are told apart by a random sum of their entries, and compared with what they are taken to equal.

    >>> distinct_along([np.array([[1, 2, 1, 2], [3, 4, 3, 5]])], 1).tolist()
    [0, 1, 3]
    """
    tables = [ids.swapaxes(0, dim).reshape(ids.shape[dim], -1) for ids in arrays if ids.shape[dim] > 1]
    if not tables:
        return np.zeros(1, dtype=np.int64)
    draw = np.random.default_rng(0)
    sums = np.zeros(len(tables[0]), dtype=np.int64)
    for table in tables:
        sums += table.astype(np.int64) @ draw.integers(np.iinfo(np.int64).max, size=table.shape[1])
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    # Sums of different slices may coincide by chance; then none are taken to be equal, which is always right.
    if len(first) == len(sums) or any((table != table[first[inverse]]).any() for table in tables):
        return np.arange(len(sums))
    return np.sort(first)
