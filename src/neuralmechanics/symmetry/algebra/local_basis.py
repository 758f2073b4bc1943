"""A basis of the solutions in which every vector moves as few variables as the equations allow."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from neuralmechanics.symmetry.algebra.elimination import Equation, eliminate, narrowed
from neuralmechanics.symmetry.algebra.reduction import Rows

__all__ = ["local_basis"]


def local_basis(
    root: np.ndarray, sign: np.ndarray, general: Rows, asked: np.ndarray, sums: frozenset[int] = frozenset()
) -> sparse.csr_matrix:
    """The coordinates of every set of equal variables, of which those that ``asked`` names are wanted.

    ``sums`` are sets that stand for sums of others, see ``eliminate``.
    """
    equations: list[Equation] = [
        dict(zip(variables, coefficients, strict=True))
        for coefficients, table in general
        for variables in table.tolist()
    ]
    # What nobody asks for is projected out first, so that no vector is left that moves it alone.
    solved = eliminate(narrowed(equations, set(np.flatnonzero(~asked).tolist())), sums)
    leads = (root == np.arange(len(root))) & asked
    # Neither zero nor what is defined in terms of others is free; every other leader is one basis vector.
    leads[np.fromiter((0, *solved), dtype=np.int64)] = False
    free = np.flatnonzero(leads)
    column = np.full(len(root), -1, dtype=np.int64)
    column[free] = np.arange(len(free))
    direct = np.flatnonzero(column[root] >= 0)
    rows, columns, values = [direct], [column[root[direct]]], [sign[direct].astype(float)]
    if solved:
        followers, variables, factors = _followed(solved, root, sign)
        rows.append(followers)
        columns.append(column[variables])
        values.append(factors)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(len(root), len(free)))


def _followed(
    solved: dict[int, Equation], root: np.ndarray, sign: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sets whose leader is solved for, what it is made of, and by which factors: one entry a set and term."""
    length = np.fromiter(map(len, solved.values()), np.int64, len(solved))
    terms = np.fromiter((term for row in solved.values() for term in row), np.int64, length.sum())
    factors = np.fromiter((float(c) for row in solved.values() for c in row.values()), np.float64, length.sum())
    number = np.full(len(root), -1, dtype=np.int64)  # of the definition of each variable that has one
    number[np.fromiter(solved, np.int64, len(solved))] = np.arange(len(solved))
    followers = np.flatnonzero(number[root] >= 0)
    defined = number[root[followers]]
    count = length[defined]
    start = np.cumsum(length)[defined] - count
    at = np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
    return np.repeat(followers, count), terms[at], factors[at] * np.repeat(sign[followers], count)
