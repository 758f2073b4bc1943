"""Which shifts of a weight's columns are taken back wherever the weight is read, but where it reads a centring norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.sets import without
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.finding.answering.answered_constants import root_parameter
from neuralmechanics.symmetry.finding.reading.grouping import Exponents, shifted_entries
from neuralmechanics.symmetry.finding.redundancy import distinct_shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["freed_columns"]

_ROUNDING = 1e-12


def freed_columns(
    captured: Captured, program: Program, weights: Sequence[Sheared], single: frozenset[str]
) -> Mapping[str, Sequence[SliceTerm]]:
    """For each weight what else moves when a column of it does, numbered by columns; only where each column may.

    Translations of the program in which the weight is another tensor, one that stays, where it reads the norm.
    """
    columns = {w.weight: w.inputs for w in weights}
    shifts = Shifts(captured.shapes, complex=captured.complex, single=single, whole=columns)
    interpret(_apart(program, weights), shifts)
    space = distinct_shifts(shifts, shifts.system.solve(shifts.read()))
    entries = shifted_entries(shifts, space)
    names = {w.weight for w in weights}
    found = {w.weight: _beside(w, entries, space.count, names) for w in weights}
    return {name: terms for name, terms in found.items() if terms is not None}


def _beside(w: Sheared, entries: Sequence[Exponents], count: int, weights: set[str]) -> list[SliceTerm] | None:
    """What goes with each column of the weight, of vectors that move nothing which may not move."""
    own = [e for e in entries if e.view.parameter == w.weight]
    if not own or own[0].view.kept != (w.inputs,):
        return None
    e = own[0]
    moves = sparse.csc_matrix((e.coefficients, (e.slices, e.basis)), shape=(e.view.size, count))
    never = [other.basis for other in entries if other.view.parameter in (w.made_of | weights) - {w.weight}]
    allowed = without(e.basis, np.concatenate([*never, np.zeros(0, np.int64)]))
    touched = np.bincount(np.concatenate([other.basis for other in entries]), minlength=count)
    allowed = allowed[np.argsort(touched[allowed], kind="stable")]  # what moves the fewest other entries first
    chosen = allowed[independent_columns(sparse.csr_matrix(moves[:, allowed]))]
    if len(chosen) != moves.shape[0]:
        return None
    inverse = sparse.csr_matrix(spsolve(moves[:, chosen], sparse.eye_array(len(chosen), format="csc")))
    others = [other for other in entries if other.view.parameter != w.weight]
    return [term for other in others if (term := _combined(other, chosen, inverse)) is not None]


def _combined(e: Exponents, chosen: np.ndarray, inverse: sparse.csr_matrix) -> SliceTerm | None:
    """What the combinations of the chosen vectors, one a column, do to one view of a parameter."""
    place = {basis: number for number, basis in enumerate(chosen.tolist())}
    kept = np.isin(e.basis, chosen)
    rows = [place[basis] for basis in e.basis[kept].tolist()]
    steps = sparse.csr_matrix((e.coefficients[kept], (e.slices[kept], rows)), shape=(e.view.size, len(chosen)))
    found = sparse.coo_matrix(steps @ inverse)
    moving = np.abs(found.data) > _ROUNDING
    if not moving.any():
        return None
    return SliceTerm(e.view, found.col[moving].astype(np.int64), found.row[moving].astype(np.int64), found.data[moving])


def _apart(program: Program, weights: Sequence[Sheared]) -> Program:
    """The program with constants in the place of the weights where these read the norm."""
    makers = program.makers()
    at = {position: w for w in weights for position in w.positions}
    out: list[Instruction] = []
    values = program.size()
    for number, instruction in enumerate(program.instructions):
        operands = list(instruction.operands)
        for place, x in enumerate(operands):
            if number in at and root_parameter(x, makers) == at[number].weight:
                operands[place] = Value(values, x.shape, False)
                out.append(replace(instruction, primitive=p.Constant(x.shape), operands=(), result=operands[place]))
                values += 1
        out.append(replace(instruction, operands=tuple(operands)))
    return replace(program, instructions=tuple(out))
