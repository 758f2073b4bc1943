"""From null spaces to families: basis vectors that touch the same tensors alike are the channels of one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.finding.reading.naming import SliceLabels

__all__ = ["Exponents", "Group", "collapse", "gather", "read_off", "shifted_entries"]


@dataclass(frozen=True, eq=False)
class Exponents:
    """What every basis vector does to one view of one parameter: coordinates (slice, basis vector, coefficient)."""

    view: SliceView
    slices: np.ndarray
    basis: np.ndarray
    coefficients: np.ndarray

    def without(self, basis: np.ndarray) -> Exponents:
        """The same but for some basis vectors."""
        keep = ~np.isin(self.basis, basis) if len(basis) else np.ones(len(self.basis), dtype=bool)
        return Exponents(self.view, self.slices[keep], self.basis[keep], self.coefficients[keep])


def read_off(name: str, shape: Sequence[int], ids: np.ndarray, factor: float, space: NullSpace) -> Exponents | None:
    """The part of the basis that stands behind one compressed array of variables of a parameter."""
    kept = tuple(d for d, n in enumerate(ids.shape) if n > 1)
    slices, basis, values = space.entries(ids)
    if not len(slices):
        return None
    return Exponents(SliceView(name, tuple(shape), kept), slices, basis, values * factor)


def shifted_entries(shifts: Shifts, space: NullSpace) -> list[Exponents]:
    """The parts of the basis that stand behind all parameters of a walk for shifts."""
    found = (
        read_off(name, shifts.shapes[name], collapse(ids, space), 1.0, space)
        for name, arrays in shifts.parameters.items()
        for ids in arrays
    )
    return [entry for entry in found if entry is not None]


def collapse(ids: np.ndarray, space: NullSpace) -> np.ndarray:
    """``ids`` with one entry along every dimension where all variables turned out to be the same."""
    for d in range(ids.ndim):
        if ids.shape[d] <= 1:
            continue
        first = ids[(slice(None),) * d + (slice(0, 1),)]
        if space.equal(ids, first):
            ids = first
    return ids


@dataclass(frozen=True, eq=False)
class Group:
    """Basis vectors that touch the same tensors alike: the generators of one family, as coefficients on slices.

    ``one_sign``: whether all exponents of each of them have one sign.
    """

    terms: tuple[SliceTerm, ...]
    size: int
    one_sign: bool
    broken_by: tuple[Breaking, ...]

    @property
    def labels(self) -> SliceLabels:
        """One text a generator."""
        return SliceLabels(self.terms, self.size)


def gather(
    exponents: Sequence[Exponents],
    size: int,
    breakings: Sequence[tuple[np.ndarray, Breaking]] = (),
    *,
    signed: bool = False,
    marked: np.ndarray | None = None,
) -> list[Group]:
    """Groups of the basis vectors that move any parameter, normalised to the least integers.

    ``signed``: vectors whose exponents have one sign are told from those where they are mixed. ``breakings`` name the
    basis vectors that a constant breaks; ``marked`` ones are told from others.
    """
    groups = []
    marks = [*(basis for basis, _ in breakings), *([marked] if marked is not None and len(marked) else [])]
    sets = members_alike(exponents, size, marks, signed)
    all_terms = family_terms(exponents, [members for members, _ in sets], size)
    for (members, sign), terms in zip(sets, all_terms, strict=True):
        # A basis vector may have any factor; least integers make charges the same from one search to the next.
        scale = _normalisation(terms, len(members))
        scaled = tuple(SliceTerm(t.view, t.charges, t.slices, t.coefficients * scale[t.charges]) for t in terms)
        chosen = np.zeros(size, dtype=bool)
        chosen[members] = True
        broken = tuple(dict.fromkeys(b for basis, b in breakings if chosen[basis].any()))
        groups.append(Group(scaled, len(members), sign == 1, broken))
    return groups


def members_alike(
    exponents: Sequence[Exponents], size: int, marks: Sequence[np.ndarray], signed: bool
) -> list[tuple[np.ndarray, int]]:
    """Sets of basis vectors that touch the same views alike and bear the same marks, in model order.

    With each comes 1 where all its exponents have one sign, 2 where they are mixed (``signed``), else 3.
    """
    reaches = [_reach(entry) for entry in exponents]
    low, high = _extremes(exponents, reaches, size)
    moving = (low != 0) | (high != 0)
    signature = _signatures(reaches, marks, size)
    sign = np.where(moving & (low * high >= 0), 1, 2) if signed else np.full(size, 3)
    signature = np.where(moving, signature * np.uint64(4) + sign.astype(np.uint64), 0)
    order, group, first = _grouped(exponents, signature, moving)
    sets = [order[group == number] for number in range(len(first))]
    return [(members, int(sign[members[0]])) for members in sets]


@dataclass(frozen=True, eq=False)
class _Reach:
    """The basis vectors in one view, with the range of their coefficients and whether they reach every slice."""

    basis: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whole: np.ndarray


def _reach(entry: Exponents) -> _Reach:
    basis, inverse, count = np.unique(entry.basis, return_inverse=True, return_counts=True)
    low, high = np.full(len(basis), np.inf), np.full(len(basis), -np.inf)
    np.minimum.at(low, inverse, entry.coefficients)
    np.maximum.at(high, inverse, entry.coefficients)
    return _Reach(basis, low, high, count == entry.view.size)


def _extremes(exponents: Sequence[Exponents], reaches: Sequence[_Reach], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest exponent that any element has under each basis vector."""
    low, high = np.zeros(size), np.zeros(size)
    by_parameter: dict[str, list[_Reach]] = {}
    for entry, reach in zip(exponents, reaches, strict=True):
        by_parameter.setdefault(entry.view.parameter, []).append(reach)
    for parts in by_parameter.values():
        least, greatest = np.zeros(size), np.zeros(size)
        touched = []
        for reach in parts:
            # Where a view is reached in part, elements elsewhere get nothing from it: zero is in its range.
            least[reach.basis] += np.where(reach.whole, reach.low, np.minimum(reach.low, 0))
            greatest[reach.basis] += np.where(reach.whole, reach.high, np.maximum(reach.high, 0))
            touched.append(reach.basis)
        here = distinct(np.concatenate(touched))
        low[here], high[here] = np.minimum(low[here], least[here]), np.maximum(high[here], greatest[here])
    return low, high


def _signatures(reaches: Sequence[_Reach], marks: Sequence[np.ndarray], size: int) -> np.ndarray:
    """A number for each basis vector, equal where the same views are touched with the same range of coefficients."""
    # A random word a view, added up modulo 2^64: other sets of views have the same sum by a chance of 2^-60 only.
    # The seed is fixed, so that every process forms the same groups.
    rng = np.random.default_rng(20210101)
    total = np.zeros(size, dtype=np.uint64)
    for reach in reaches:
        code = np.uint64(rng.integers(1, 1 << 60))
        # 720 is a multiple of all small denominators: as whole numbers equal coefficients are equal bit by bit.
        flavour = np.round(reach.low * 720 + reach.high * 5040 * 720).astype(np.int64).astype(np.uint64)
        with np.errstate(over="ignore"):
            total[reach.basis] += code * (np.uint64(2) * flavour + np.uint64(1))
    for basis in marks:
        code = np.uint64(rng.integers(1, 1 << 60))
        with np.errstate(over="ignore"):
            total[distinct(basis)] += code
    return total


def _grouped(
    exponents: Sequence[Exponents], signature: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Basis vectors in model order, the family of each, families numbered by their first appearance."""
    # By the first element that a vector moves: the vectors themselves are numbered in the order of the walk.
    first_seen = np.full(len(signature), np.iinfo(np.int64).max)
    offset = 0
    for entry in exponents:
        np.minimum.at(first_seen, entry.basis, offset + entry.slices)
        offset += entry.view.size
    members = np.flatnonzero(moving)
    members = members[np.argsort(first_seen[members], kind="stable")]
    _, start, inverse = np.unique(signature[members], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(start))
    return members, rank[inverse.reshape(-1)], np.sort(start)


def family_terms(exponents: Sequence[Exponents], families: Sequence[np.ndarray], size: int) -> list[list[SliceTerm]]:
    """The exponents of each family's members as terms, charges numbered in the members' order."""
    owner, number = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for family, members in enumerate(families):
        owner[members], number[members] = family, np.arange(len(members))
    terms: list[list[SliceTerm]] = [[] for _ in families]
    for entry in exponents:
        owners = owner[entry.basis]
        for family in distinct(owners[owners >= 0]).tolist():
            inside = owners == family
            basis = number[entry.basis[inside]]
            terms[family].append(SliceTerm(entry.view, basis, entry.slices[inside], entry.coefficients[inside]))
    return terms


def _normalisation(terms: Sequence[SliceTerm], count: int) -> np.ndarray:
    """Factors that make the exponents of each vector the least integers, the first one positive."""
    scale = np.zeros(count)
    for term in terms:
        charges, index = np.unique(term.charges, return_index=True)
        new = scale[charges] == 0
        scale[charges[new]] = np.sign(term.coefficients[index[new]])
    odd: dict[int, set[float]] = {}
    for term in terms:
        unusual = np.abs(term.coefficients) != 1
        for charge in distinct(term.charges[unusual]).tolist():
            odd.setdefault(charge, set())
    for term in terms:
        for charge, value in zip(term.charges.tolist(), term.coefficients.tolist(), strict=True) if odd else ():
            if charge in odd:
                odd[charge].add(value)
    for charge, values in odd.items():
        # The floats come from exact fractions, which are simple: 5040 is a multiple of all whole numbers up to 10.
        fractions = [Fraction(v).limit_denominator(5040) for v in values]
        common = lcm(*(f.denominator for f in fractions))
        divisor = gcd(*(int(f * common) for f in fractions))
        scale[charge] *= common / divisor
    return scale
