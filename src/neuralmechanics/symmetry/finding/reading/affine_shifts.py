"""Affine families: shifts that later biases answer, beyond the translations that need no answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct, without
from neuralmechanics.symmetry.domains.shift.answers import Absorbed, parameter_behind
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.domains.shift.products import Gained, Mapped
from neuralmechanics.symmetry.families.actions import AffineShift, AffineTerm, MapFactor, Shift
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.finding.reading.grouping import Exponents, family_terms, members_alike, shifted_entries
from neuralmechanics.symmetry.finding.reading.naming import SliceLabels, named_family
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, View, dimension_groups

__all__ = ["ShiftReading", "affine_families"]


def affine_families(
    shifts: Shifts, space: NullSpace, translations: Sequence[Shift], requires: tuple[str, ...]
) -> list[Family]:
    """Families of the shifts in the null space of an absorbing walk, without those that are translations already."""
    reading = ShiftReading.of(shifts, space)
    candidates = without(_touched([a for a, _ in reading.maps], space), reading.refused)
    found = reading.actions(_beyond(reading.entries, candidates, translations))
    return [named_family("affine", action, SliceLabels(action.terms, count), requires) for action, count in found]


@dataclass(frozen=True, eq=False)
class ShiftReading:
    """What each basis vector of an absorbing walk does to parameters (``entries``), and what biases take back of it.

    ``refused``: vectors that a map answers which is no parameter, or which moves itself and so gives no affine shift.
    """

    space: NullSpace
    entries: list[Exponents]
    maps: list[tuple[Absorbed, Maps]]
    refused: np.ndarray

    @classmethod
    def of(cls, shifts: Shifts, space: NullSpace) -> ShiftReading:
        """The reading of a walk."""
        entries = shifted_entries(shifts, space)
        found = [(a, _maps(a, shifts.shapes)) for a in shifts.absorbed]
        maps = [(a, known) for a, known in found if known is not None]
        # Where a shift also moves the weights that carry it on, the answer would be quadratic in its amount.
        weights = {factor.view.parameter for _, known in maps for factor in known.factors}
        moved = [e.basis for e in entries if e.view.parameter in weights]
        unreadable = _touched([a for a, known in found if known is None], space)
        return cls(space, entries, maps, distinct(np.concatenate([unreadable, *moved])))

    def actions(self, basis: np.ndarray) -> list[tuple[AffineShift, int]]:
        """The shifts of these basis vectors, those that move the same alike in one action, with their number."""
        chosen = [_only(e, basis) for e in self.entries]
        marks = _answered_alike(self.maps, self.space)  # shifts with different answers are different families
        sets = [members for members, _ in members_alike(chosen, self.space.count, marks, signed=False)]
        terms, answers = family_terms(chosen, sets, self.space.count), _answers(self.maps, sets, self.space)
        return [
            (AffineShift(tuple(own), answer), len(members))
            for members, own, answer in zip(sets, terms, answers, strict=True)
        ]


def _answered_alike(maps: Sequence[tuple[Absorbed, Maps]], space: NullSpace) -> list[np.ndarray]:
    """For each bias and map, the basis vectors that it answers, in however many pieces that is written."""
    alike: dict[Hashable, list[np.ndarray]] = {}
    for absorbed, found in maps:
        alike.setdefault((absorbed.absorber, found), []).append(space.basis_of(absorbed.ids))
    return [distinct(np.concatenate(parts)) for parts in alike.values()]


def _touched(absorbed: Sequence[Absorbed], space: NullSpace) -> np.ndarray:
    parts = [space.basis_of(a.ids) for a in absorbed]
    return distinct(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _maps(absorbed: Absorbed, shapes: Mapping[str, tuple[int, ...]]) -> Maps | None:
    """The weights behind the linear maps in a row, and whether the inputs of the first are told apart."""
    found = [_gain(step, shapes) if isinstance(step, Gained) else _weight(step, shapes) for step in absorbed.steps]
    factors = tuple(one[0] for one in found if one is not None)
    told = bool(absorbed.steps[0].absorbed)
    first = factors[0] if len(factors) == len(found) else None
    if first is None or any(step.absorbed for step in absorbed.steps[1:]):
        return None
    times = math.prod(one[1] for one in found if one is not None)
    return Maps(factors, told, times, absorbed.rows) if len(absorbed.ids) == (first.inputs if told else 1) else None


@dataclass(frozen=True)
class Maps:
    """Linear maps in a row, and a number; ``told``: the same shift does not enter every input of the first.

    ``rows``: the outputs that are answered; none for all.
    """

    factors: tuple[MapFactor, ...]
    told: bool
    times: float
    rows: tuple[int, ...] = ()


def _gain(step: Gained, shapes: Mapping[str, tuple[int, ...]]) -> tuple[MapFactor, float] | None:
    """A vector of gains, entry by entry, and the number that it is multiplied by."""
    name, times = _unscaled(step.other)
    parameter, whole = parameter_behind(name, shapes)
    wide = [d for d, n in enumerate(shapes[parameter]) if n > 1] if parameter and whole else []
    return (MapFactor(SliceView(parameter, shapes[parameter], (wide[0],)), True), times) if len(wide) == 1 else None


def _unscaled(name: Hashable) -> tuple[Hashable, float]:
    """What a value is a multiple of, and which."""
    times = 1.0
    while isinstance(name, tuple) and name and name[0] == "scaled":
        times *= name[2]
        name = name[1]
    return name, times


def _weight(step: Mapped, shapes: Mapping[str, tuple[int, ...]]) -> tuple[MapFactor, float] | None:
    """The weight behind a linear map as a view that keeps outputs and inputs, and the number that multiplies it."""
    grouped = _grouped_weight(step, shapes)
    if grouped is not None:
        return grouped, 1.0
    views: list[View] = []
    name, times = _unscaled(step.other)
    while isinstance(name, tuple) and name and name[0] == "view":
        views.insert(0, name[2])
        name, more = _unscaled(name[1])
        times *= more
    if not (isinstance(name, tuple) and name[:1] == ("parameter",)):
        return None
    parameter = str(name[1])
    places = _places(shapes[parameter], views)
    letters = step.how.y if step.letters == step.how.x else step.how.x
    inner = {w.kernel for w in step.how.windows}
    found = [(letter, d) for letter, d in zip(letters, places or (), strict=False) if d is not None]
    outputs = [d for letter, d in found if letter in step.how.out]
    inputs = [d for letter, d in found if letter not in step.how.out and letter not in inner]
    # An answer is a matrix times a vector, with one dimension for each.
    if len(outputs) != 1 or len(inputs) != 1:
        return None
    kept = tuple(sorted((outputs[0], inputs[0])))
    return MapFactor(SliceView(parameter, shapes[parameter], kept), outputs[0] < inputs[0]), times


def _places(shape: Sequence[int], views: Sequence[View]) -> list[int | None] | None:
    """For each dimension of a rearranged parameter the parameter's own, None for one that a reshape put in.

    None as a whole where entries are picked or repeated, or dimensions merge or split.
    """
    places: list[int | None] = list(range(len(shape)))
    seen = tuple(shape)
    for view in views:
        if isinstance(view, Permute):
            places = [places[d] for d in view.order]
        elif isinstance(view, Reshape):
            moved: list[int | None] = [None] * len(view.shape)
            for inside, outside in dimension_groups(seen, view.shape):
                before, after = [d for d in inside if seen[d] > 1], [d for d in outside if view.shape[d] > 1]
                if len(before) > 1 or len(after) > 1:
                    return None
                pairs = zip(before, after, strict=True) if before else zip(inside, outside, strict=False)
                for d, k in pairs:
                    moved[k] = places[d]
            places = moved
        else:
            return None
        seen = tuple(view.output_shape(seen))
    return places


def _grouped_weight(step: Mapped, shapes: Mapping[str, tuple[int, ...]]) -> MapFactor | None:
    """The kernel of a convolution in groups, of which the rows are split into groups that read inputs of their own."""
    name = step.other
    behind, whole = parameter_behind(name, shapes)
    if not behind or not whole or not (isinstance(name, tuple) and name[0] == "view" and isinstance(name[2], Reshape)):
        return None
    shape, seen = shapes[behind], tuple(name[2].shape)
    letters = step.how.y if step.letters == step.how.x else step.how.x
    if len(seen) != len(shape) + 1 or seen[2:] != shape[1:] or len(letters) < 3:
        return None
    group, output, entry = tuple(letters[:3])
    kernels = {w.kernel for w in step.how.windows}
    in_groups = group in step.letters and {group, output} <= set(step.how.out) and output not in step.letters
    if not in_groups or entry in step.how.out or not set(letters[3:]) <= kernels:
        return None
    # Inputs are numbered group by group; in another order they would belong to other groups.
    if step.letters.index(group) > step.letters.index(entry):
        return None
    return MapFactor(SliceView(behind, shape, (0, 1)), True, seen[0])


def _only(entry: Exponents, basis: np.ndarray) -> Exponents:
    keep = np.isin(entry.basis, basis)
    return Exponents(entry.view, entry.slices[keep], entry.basis[keep], entry.coefficients[keep])


def _beyond(entries: Sequence[Exponents], candidates: np.ndarray, translations: Sequence[Shift]) -> np.ndarray:
    """The candidates that are linearly independent of all translations and of the candidates before them."""
    if not len(candidates):
        return candidates
    touching = [e for e in entries if np.isin(e.basis, candidates).any()]
    if not touching:  # candidates that move no parameter that is read
        return candidates[:0]
    names = {e.view.parameter for e in touching}
    known = [shift for shift in translations if names & set(shift.parameters)]
    first = np.cumsum([0, *(shift.charges for shift in known)])
    shifts = [
        Exponents(t.view, t.slices, start + t.charges, t.coefficients)
        for shift, start in zip(known, first.tolist(), strict=False)
        for t in shift.terms
    ]
    count = int(first[-1])
    for e in touching:
        own = np.isin(e.basis, candidates)
        number = count + np.searchsorted(candidates, e.basis[own])
        shifts.append(Exponents(e.view, e.slices[own], number, e.coefficients[own]))
    kept = independent_columns(_coordinates(shifts, count + len(candidates)))
    return np.asarray(candidates[kept[kept >= count] - count])


def _coordinates(shifts: Sequence[Exponents], columns: int) -> sparse.csr_matrix:
    """Shifts of parameters as columns, in few coordinates that tell all of them apart.

    A shift is a sum of parts that are constant on the slices of a view each. It vanishes where it does so at all
    elements whose indices are zero but for those that some view keeps: these are the coordinates.
    """
    parts: dict[str, dict[SliceView, list[Exponents]]] = {}
    for shift in shifts:
        parts.setdefault(shift.view.parameter, {}).setdefault(shift.view, []).append(shift)
    blocks = []
    for views in parts.values():
        tables = {view: _table(entries, view.size, columns) for view, entries in views.items()}
        blocks += [sum(table[_slices_at(view, place)] for view, table in tables.items()) for place in views]
    return sparse.csr_matrix(sparse.vstack(blocks, format="csr"))


def _table(entries: Sequence[Exponents], slices: int, columns: int) -> sparse.csr_matrix:
    rows = np.concatenate([e.slices for e in entries])
    places = np.concatenate([e.basis for e in entries])
    values = np.concatenate([e.coefficients for e in entries])
    return sparse.csr_matrix((values, (rows, places)), shape=(slices, columns))


def _slices_at(view: SliceView, place: SliceView) -> np.ndarray:
    """For each slice of ``place`` the slice of ``view`` that holds its element with all other indices zero."""
    number = np.arange(view.size).reshape([view.shape[d] for d in view.kept])
    met = number[tuple(slice(None) if d in place.kept else 0 for d in view.kept)]
    full = met.reshape([view.shape[d] if d in view.kept else 1 for d in place.kept])
    return np.broadcast_to(full, [view.shape[d] for d in place.kept]).reshape(-1)


def _answers(
    maps: Sequence[tuple[Absorbed, Maps]], sets: Sequence[np.ndarray], space: NullSpace
) -> list[tuple[AffineTerm, ...]]:
    """For each set of basis vectors what the biases absorb; its members are numbered in the order they have there."""
    owner, number = np.full(space.count, -1, dtype=np.int64), np.zeros(space.count, dtype=np.int64)
    for family, members in enumerate(sets):
        owner[members], number[members] = family, np.arange(len(members))
    answers: list[list[AffineTerm]] = [[] for _ in sets]
    for absorbed, found in maps:
        place, basis, values = space.entries(absorbed.ids)
        order = np.argsort(owner[basis], kind="stable")
        order = order[owner[basis[order]] >= 0]
        for inside in np.split(order, np.flatnonzero(np.diff(owner[basis[order]])) + 1) if len(order) else ():
            family = int(owner[basis[inside[0]]])
            inputs, generators = place[inside], number[basis[inside]]
            coefficients = values[inside] * (absorbed.factor * found.times)
            if not found.told:  # the same shift enters every input column
                columns = found.factors[0].inputs
                inputs = np.tile(np.arange(columns), len(generators))
                generators, coefficients = np.repeat(generators, columns), np.repeat(coefficients, columns)
            first, *then = found.factors
            term = AffineTerm(
                absorbed.absorber, first.view, first.output_first, inputs, generators, coefficients, tuple(then),
                first.groups, found.rows,
            )  # fmt: skip
            answers[family].append(term)
    return [tuple(terms) for terms in answers]
