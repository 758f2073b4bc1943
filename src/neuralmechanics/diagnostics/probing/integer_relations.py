"""Small integer relations between columns of numbers: their null space, in a basis as local as it gets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

__all__ = ["NullSpace", "integer_relations"]

_DENOMINATOR = 24
_ATTEMPTS = 8


@dataclass(frozen=True, eq=False)
class NullSpace:
    """Integer relations [relations, columns] that every row obeys, beside the ``known`` ones; and the spectral gap.

    ``kept`` is the least relative singular value that was taken for nonzero, ``dropped`` the greatest taken for zero.
    ``irregular`` counts null directions without small integer coefficients: nothing is claimed of them.
    """

    relations: np.ndarray
    kept: float
    dropped: float
    irregular: int


def integer_relations(values: np.ndarray, sizes: np.ndarray, known: np.ndarray, tolerance: float) -> NullSpace:
    """All relations Σ c_k values[s, k] = 0 for every s, modulo the ``known`` ones.

    Columns are measured by the root mean square of ``sizes``, the sums of absolute values behind them; columns of size
    zero take part in nothing. Singular values below ``tolerance`` relative to the greatest count as zero.
    """
    size = np.sqrt(np.mean(sizes**2, axis=0))
    alive = size > 0
    columns = np.flatnonzero(alive)
    scaled = values[:, alive] / size[alive]
    known = _independent(known[:, alive])
    if not len(columns):
        return NullSpace(np.zeros((0, values.shape[1])), 1.0, 0.0, 0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=True)
    singular = np.concatenate([singular, np.zeros(right.shape[0] - len(singular))]) / max(singular[0], 1e-300)
    null = singular < tolerance
    basis = right[null] / size[alive]
    kept = float(singular[~null].min()) if (~null).any() else 1.0
    dropped = float(singular[null].max()) if null.any() else 0.0
    relations = np.zeros((0, len(columns)))
    for attempt in range(_ATTEMPTS):
        integers = [_integers(row) for row in _echelon(basis, attempt)]
        # Rounded to integers a row may be a relation no longer, so it is tried on the values themselves.
        regular = [row for row in integers if row is not None and _holds(row, scaled, size[alive], tolerance)]
        relations = _modulo(np.array([*relations, *regular]).reshape(-1, len(columns)), known)
        if len(relations) + len(known) == len(basis):
            break
    relations = _localised(relations, known)
    out = np.zeros((len(relations), values.shape[1]))
    out[:, columns] = relations
    return NullSpace(out, kept, dropped, len(basis) - len(known) - len(relations))


def _holds(row: np.ndarray, scaled: np.ndarray, size: np.ndarray, tolerance: float) -> bool:
    weights = row * size
    return bool(np.linalg.norm(scaled @ weights) <= 100 * tolerance * np.linalg.norm(scaled) * np.linalg.norm(weights))


def _echelon(basis: np.ndarray, attempt: int) -> np.ndarray:
    """Reduced echelon form: coefficients of small integer relations become rational again.

    Pivots are the largest entries at first; further attempts take columns in random order, large entries only.
    """
    rows = basis.copy()
    preference = np.random.default_rng(attempt).random(basis.shape[1])
    rows /= np.abs(rows).max(axis=1, keepdims=True) if len(rows) else 1.0
    for k in range(len(rows)):
        sizes = np.abs(rows[k:])
        if attempt:
            sizes = np.where(sizes > 0.3 * sizes.max(), 1 + preference, 0.0)
        place = np.unravel_index(sizes.argmax(), sizes.shape)
        pivot_row, pivot = int(place[0]) + k, int(place[1])
        rows[[k, pivot_row]] = rows[[pivot_row, k]]
        rows[k] /= rows[k, pivot]
        others = np.arange(len(rows)) != k
        rows[others] -= np.outer(rows[others, pivot], rows[k])
    return rows


def _integers(row: np.ndarray) -> np.ndarray | None:
    """The row times the least number that makes it integer, None where there is no small one."""
    fractions = [Fraction(float(v)).limit_denominator(_DENOMINATOR) for v in row]
    rounded = np.array([float(f) for f in fractions])
    # Two fractions of such denominators are 1/552 apart at least, about twice this bound.
    if np.abs(rounded - row).max() > 1e-3 or not rounded.any():
        return None
    common = lcm(*(f.denominator for f in fractions))
    return rounded * common / gcd(*(int(f * common) for f in fractions))


def _rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows)) if rows.size else 0


def _independent(rows: np.ndarray) -> np.ndarray:
    """The rows that are not sums of earlier ones."""
    kept: list[np.ndarray] = []
    for row in rows:
        if _rank(np.array([*kept, row])) > len(kept):
            kept.append(row)
    return np.array(kept).reshape(-1, rows.shape[1])


def _modulo(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rows that are independent of the known relations and of each other, the shortest first."""
    order = np.argsort([np.count_nonzero(row) for row in rows], kind="stable")
    both = np.concatenate([known, rows[order]]) if len(rows) else known
    # Modified Gram-Schmidt: a row counts where something of it is left.
    basis: list[np.ndarray] = []
    chosen = []
    for number, row in enumerate(both):
        rest = row.astype(float).copy()
        # Twice, because once leaves rounding of the size of the row.
        for direction in basis * 2:
            rest -= direction * (direction @ rest)
        if np.linalg.norm(rest) > 1e-8 * np.linalg.norm(row):
            basis.append(rest / np.linalg.norm(rest))
            if number >= len(known):
                chosen.append(row)
    return np.array(chosen).reshape(-1, known.shape[1])


def _localised(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The same space with shorter rows: multiples of others, known ones too, are subtracted while that shortens."""
    rows = rows.copy()
    for _ in range(8):
        before = int(np.count_nonzero(rows))
        for i in range(len(rows)):
            for other in [*known, *rows[:i], *rows[i + 1 :]]:
                rows[i] = _shortened(rows[i], other)
        if int(np.count_nonzero(rows)) == before:
            break
    return np.array([_primitive(row) for row in rows]).reshape(-1, rows.shape[1])


def _shortened(row: np.ndarray, other: np.ndarray) -> np.ndarray:
    support = np.flatnonzero(other)
    overlap = support[row[support] != 0]
    # A multiple clears the overlap at most and fills the rest of the other's support: nothing would be gained.
    if 2 * len(overlap) <= len(support):
        return row
    ratios, counts = np.unique(np.round(row[overlap] / other[overlap], 9), return_counts=True)
    candidate = row - float(ratios[counts.argmax()]) * other
    candidate[np.abs(candidate) < 1e-9] = 0.0
    return candidate if np.count_nonzero(candidate) < np.count_nonzero(row) else row


def _primitive(row: np.ndarray) -> np.ndarray:
    scaled = _integers(row)
    assert scaled is not None
    return scaled * (1.0 if scaled[np.flatnonzero(scaled)[0]] > 0 else -1.0)
