"""Shifts of weights behind which gains stand: W + (1/λ) vᵀ where 1 vᵀ is forgotten by all that reads λ⊙(W a)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct, without
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.actions import AffineShift, Shear, ShearTerm
from neuralmechanics.symmetry.finding.reading.grouping import Exponents, shifted_entries
from neuralmechanics.symmetry.finding.redundancy import distinct_shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.rewriting.gained_writers import GainedWriter, without_gains
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Program

__all__ = ["gained_shifts"]


def gained_shifts(captured: Captured, program: Program, single: frozenset[str]) -> list[Shear]:
    """Translations of the program in which such weights stand for their products with the gains, of one weight each.

    A translation W' + S u of W' = diag(λ) W is W + diag(1/λ) S u.
    """
    plain, writers = without_gains(program, single)
    if not writers:
        return []
    shifts = Shifts(captured.shapes, complex=captured.complex, single=single)
    interpret(plain, shifts)
    space = distinct_shifts(shifts, shifts.system.solve(shifts.read()))
    entries = shifted_entries(shifts, space)
    alone = _alone(entries, space)
    return [
        shear
        for entry in entries
        if (writer := writers.get(entry.view.parameter)) is not None
        and entry.view.parameter not in {gain.parameter for gain, _ in writer.dressing}
        and (shear := _sheared(entry, writer, alone)) is not None
    ]


def _alone(entries: list[Exponents], space: NullSpace) -> np.ndarray:
    """The basis vectors that move one view of one parameter."""
    touched = np.concatenate([distinct(e.basis) for e in entries]) if entries else np.zeros(0, np.int64)
    return np.flatnonzero(np.bincount(touched, minlength=space.count) == 1)


def _sheared(entry: Exponents, writer: GainedWriter, alone: np.ndarray) -> Shear | None:
    """The shear of these basis vectors, without those that move entries behind one gain only.

    Such a shift is a multiple of itself without gains, and so a translation that is known.
    """
    e = entry.without(without(entry.basis, alone))
    kept = e.view.kept
    if writer.dim in kept:
        place = np.unravel_index(e.slices, [e.view.shape[d] for d in kept])[kept.index(writer.dim)]
        spans = [(b, distinct(place[e.basis == b]).size) for b in distinct(e.basis)]
        e = e.without(np.array([b for b, count in spans if count < 2], np.int64))
    if not len(e.basis):
        return None
    view = e.view
    if writer.dim not in kept:
        view = replace(view, shape=tuple(1 if d == writer.dim else n for d, n in enumerate(view.shape)))
    order = distinct(e.basis)
    term = SliceTerm(view, np.searchsorted(order, e.basis), e.slices, e.coefficients)
    return Shear(ShearTerm(term, writer.dim, writer.dressing), AffineShift((), ()))
