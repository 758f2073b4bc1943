"""Affine families: shifts that later biases answer, beyond the translations that need no answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.domains.shift.variation import Absorbed
from neuralmechanics.symmetry.families.actions import AffineShift, AffineTerm, Shift
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.finding.grouping import (
    Exponents,
    SliceLabels,
    collapse,
    family_terms,
    members_alike,
    named_family,
    read_off,
)
from neuralmechanics.symmetry.program.views import Permute, View

__all__ = ["affine_families"]

SPAN_LIMIT = 1 << 22  # numbers in the matrix of shifts up to which linear independence is computed


def affine_families(
    shifts: Shifts, space: NullSpace, translations: Sequence[Shift], requires: tuple[str, ...]
) -> list[Family]:
    """Families of the shifts in the null space of an absorbing walk, without those that are translations already."""
    entries = []
    for name, arrays in shifts.parameters.items():
        for ids in arrays:
            kept = collapse(ids, space)
            entry = read_off(name, shifts.shapes[name], kept, 1.0, space.matrix)
            if entry is not None:
                entries.append(entry)
    maps = [(a, found) for a in shifts.absorbed if (found := _weight(a, shifts.shapes)) is not None]
    unreadable = [a for a in shifts.absorbed if _weight(a, shifts.shapes) is None]
    answered = _touched([a for a, _ in maps], space.matrix)
    refused = _touched(unreadable, space.matrix)
    candidates = np.setdiff1d(answered, refused)
    fresh = _beyond(entries, candidates, translations, shifts.shapes)
    chosen = [_only(e, fresh) for e in entries]
    size = space.matrix.shape[1]
    marks = [space.matrix[a.ids].indices for a, _ in maps]  # shifts with different answers are different families
    sets = [members for members, _ in members_alike(chosen, size, marks, signed=False)]
    return [
        named_family(
            "affine",
            AffineShift(tuple(terms), _answers(members, maps, space)),
            SliceLabels(terms, len(members)),
            requires,
        )
        for members, terms in zip(sets, family_terms(chosen, sets, size), strict=True)
    ]


def _touched(absorbed: Sequence[Absorbed], matrix: sparse.csr_matrix) -> np.ndarray:
    parts = [matrix[a.ids].indices for a in absorbed]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _weight(absorbed: Absorbed, shapes: Mapping[str, tuple[int, ...]]) -> tuple[SliceView, bool, bool] | None:
    """The weight behind a linear map as a view that keeps outputs and inputs; outputs first; inputs told apart."""
    step = absorbed.step
    views: list[View] = []
    name = step.other
    while isinstance(name, tuple) and name and name[0] == "view":
        if not isinstance(name[2], Permute):
            return None
        views.insert(0, name[2])
        name = name[1]
    if not (isinstance(name, tuple) and name[:1] == ("parameter",)):
        return None
    parameter = str(name[1])
    letters = step.how.y if step.letters == step.how.x else step.how.x
    places = list(range(len(shapes[parameter])))
    for view in views:
        places = [places[d] for d in view.order] if isinstance(view, Permute) else places
    inner = {w.kernel for w in step.how.windows}
    outputs = [places[k] for k, letter in enumerate(letters) if letter in step.how.out]
    inputs = [places[k] for k, letter in enumerate(letters) if letter not in step.how.out and letter not in inner]
    if len(outputs) != 1 or len(inputs) != 1:
        return None
    told = bool(step.absorbed)
    if len(absorbed.ids) != (shapes[parameter][inputs[0]] if told else 1):
        return None
    kept = tuple(sorted((outputs[0], inputs[0])))
    return SliceView(parameter, shapes[parameter], kept), outputs[0] < inputs[0], told


def _only(entry: Exponents, basis: np.ndarray) -> Exponents:
    keep = np.isin(entry.basis, basis)
    return Exponents(entry.view, entry.slices[keep], entry.basis[keep], entry.coefficients[keep])


def _beyond(
    entries: Sequence[Exponents],
    candidates: np.ndarray,
    translations: Sequence[Shift],
    shapes: Mapping[str, tuple[int, ...]],
) -> np.ndarray:
    """The candidates whose shifts no translations make; of large parameters, those that no translation moves at all."""
    exact = _independent(entries, candidates, translations)
    if exact is not None:
        return exact
    moved: dict[str, np.ndarray] = {}
    for translation in translations:
        for term in translation.terms:
            flags = moved.setdefault(term.view.parameter, np.zeros(shapes[term.view.parameter], dtype=bool))
            seen = np.zeros(term.view.size, dtype=bool)
            seen[term.slices] = True
            sizes = [n if d in term.view.kept else 1 for d, n in enumerate(term.view.shape)]
            flags |= np.broadcast_to(seen.reshape(sizes), term.view.shape).reshape(flags.shape)
    known: set[int] = set()
    for entry in entries:
        if entry.view.parameter not in moved:
            continue
        reduced = moved[entry.view.parameter].reshape(entry.view.shape).any(axis=entry.view.summed).reshape(-1)
        known |= set(np.unique(entry.basis[reduced[entry.slices]]).tolist())
    return np.setdiff1d(candidates, np.fromiter(known, dtype=np.int64, count=len(known)))


def _independent(
    entries: Sequence[Exponents], candidates: np.ndarray, translations: Sequence[Shift]
) -> np.ndarray | None:
    """The candidates that are linearly independent of all translations and of those before; None where too many."""
    touching = [e for e in entries if np.isin(e.basis, candidates).any()]
    names = {e.view.parameter for e in touching}
    terms = [(number, t) for number, f in enumerate(translations) if names & set(f.parameters) for t in f.terms]
    views = {view.parameter: view.shape for view in [*(e.view for e in touching), *(t.view for _, t in terms)]}
    starts = dict(zip(views, np.cumsum([0, *(math.prod(shape) for shape in views.values())]).tolist(), strict=False))
    length = sum(math.prod(shape) for shape in views.values())
    sizes = {number: translations[number].charges for number, _ in terms}
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    count = sum(sizes.values())
    if length * (count + len(candidates)) > SPAN_LIMIT or not len(candidates):
        return None
    rows = np.zeros((count + len(candidates), length))
    for number, t in terms:
        _add_slices(rows, starts, t.view, t.slices, first[number] + t.charges, t.coefficients)
    for e in touching:
        chosen = np.isin(e.basis, candidates)
        places = count + np.searchsorted(candidates, e.basis[chosen])
        _add_slices(rows, starts, e.view, e.slices[chosen], places, e.coefficients[chosen])
    _, factor = np.linalg.qr(rows[:, rows.any(axis=0)].T)
    kept = _pivots(factor)
    return np.asarray(candidates[kept[kept >= count] - count])


def _pivots(factor: np.ndarray) -> np.ndarray:
    """The columns of a matrix that are independent of those before them, by elimination."""
    work = factor / np.maximum(np.linalg.norm(factor, axis=0), 1e-300)
    kept = []
    for column in range(work.shape[1]):
        size = float(np.linalg.norm(work[:, column]))
        if size > 1e-8:
            kept.append(column)
            direction = work[:, column] / size
            work[:, column:] -= np.outer(direction, direction @ work[:, column:])
    return np.asarray(kept, dtype=np.int64)


def _add_slices(
    rows: np.ndarray,
    starts: Mapping[str, int],
    view: SliceView,
    slices: np.ndarray,
    places: np.ndarray,
    coefficients: np.ndarray,
) -> None:
    """Adds to row ``places[k]`` the coefficient on every element of slice ``slices[k]``."""
    number = np.arange(view.size).reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])
    number = np.broadcast_to(number, view.shape).reshape(-1)
    table = np.zeros((len(rows), view.size))
    np.add.at(table, (places, slices), coefficients)
    start = starts[view.parameter]
    rows[:, start : start + len(number)] += table[:, number]


def _answers(
    members: np.ndarray,
    maps: Sequence[tuple[Absorbed, tuple[SliceView, bool, bool]]],
    space: NullSpace,
) -> tuple[AffineTerm, ...]:
    """What the biases absorb of a family's shifts; ``members`` are its basis vectors in the order of its generators."""
    number = np.full(space.matrix.shape[1], -1, dtype=np.int64)
    number[members] = np.arange(len(members))
    terms = []
    for absorbed, (view, output_first, told) in maps:
        rows = sparse.coo_matrix(space.matrix[absorbed.ids])
        inside = number[rows.col] >= 0
        if not inside.any():
            continue
        generators = number[rows.col[inside]]
        inputs = rows.row[inside].astype(np.int64)
        coefficients = rows.data[inside] * absorbed.factor
        if not told:  # the same shift enters every input column
            columns = view.shape[view.kept[1] if output_first else view.kept[0]]
            inputs = np.tile(np.arange(columns), len(generators))
            generators, coefficients = np.repeat(generators, columns), np.repeat(coefficients, columns)
        terms.append(AffineTerm(absorbed.absorber, view, output_first, inputs, generators, coefficients))
    return tuple(terms)
