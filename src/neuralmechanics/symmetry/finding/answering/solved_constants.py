"""Constants that a map without a bias turns into shifts which nothing behind it sees: u with M u = F w."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.actions import AffineShift, AffineTerm, Shear, ShearTerm, Solved
from neuralmechanics.symmetry.finding.answering.answered_constants import (
    bias_of,
    bias_shape,
    root_parameter,
    with_biases,
)
from neuralmechanics.symmetry.finding.reading.absorbing import absorbed_shifts
from neuralmechanics.symmetry.finding.reading.affine_shifts import ShiftReading
from neuralmechanics.symmetry.finding.redundancy import distinct_shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["solved_constants"]

Shape = tuple[int, ...]


def solved_constants(
    captured: Captured, program: Program, weights: Sequence[Sheared], single: frozenset[str]
) -> list[Shear]:
    """Shears of these weights, and shifts of biases, for which the equation has to be solved.

    Maps without a bias are given one in the program. What shifts it alone is what nothing behind it sees (F); what it
    takes back of another shift u is M u.
    """
    if not _centres(program):
        return []
    waiting = [w for w in weights if w.hollow.shifts and w.absorber is None]
    added = {bias_of(w): bias_shape(w, captured.shapes[w.weight]) for w in waiting}
    biased = with_biases(program, waiting, added)
    outputs = _maps(biased, single)
    if not outputs:
        return []
    ends = {_output_of(name): (size,) for name, size, _ in outputs.values()}
    walked = _with_outputs(biased, outputs)
    shapes = {**captured.shapes, **added, **ends}
    shifts = absorbed_shifts(
        lambda answers: Shifts(
            shapes, absorbing=True, complex=captured.complex, single=single | ends.keys(), answers=answers
        ),
        partial(interpret, walked),
        never={**added, **ends},
    )
    reading = ShiftReading.of(shifts, distinct_shifts(shifts, shifts.system.solve(shifts.read())))
    parts = _Parts.of(reading, ends)
    found = [_shear(w, part) for w in waiting for part in parts.of_bias(bias_of(w))]
    found += [_shift(name, part, captured.shapes[name]) for name in single for part in parts.of_bias(name)]
    return [shear for shear in found if shear is not None]


@dataclass(frozen=True, eq=False)
class _Part:
    """Shifts of one bias that one map takes: S, the map, and F."""

    shifts: SliceTerm
    maps: tuple[AffineTerm, ...]
    targets: SliceTerm


@dataclass(frozen=True, eq=False)
class _Parts:
    """What moves one bias and is taken back by one output only, by that bias."""

    found: Mapping[str, Sequence[_Part]]

    def of_bias(self, name: str) -> Sequence[_Part]:
        return self.found.get(name, ())

    @classmethod
    def of(cls, reading: ShiftReading, ends: Collection[str]) -> _Parts:
        taken = _taken(reading)
        if not taken:
            return cls({})
        several = sum((mine.astype(np.int64) for mine in taken.values()), np.zeros(reading.space.count, np.int64))
        members = [distinct(e.basis) for e in reading.entries]
        moved = np.bincount(np.concatenate(members), minlength=reading.space.count)  # how many views a vector moves
        alone = moved == 1
        alone[reading.refused] = False
        free = {}
        for e, own in zip(reading.entries, members, strict=True):
            chosen = own[alone[own] & (several[own] == 0)] if e.view.parameter in ends else own[:0]
            if len(chosen):
                (action, _), *more = reading.actions(chosen)
                if not more:
                    (free[e.view.parameter],) = action.terms
        found: dict[str, list[_Part]] = {}
        for e, own in zip(reading.entries, members, strict=True):
            for end in free.keys() & taken.keys() if e.view.parameter not in ends else ():
                chosen = own[alone[own] & (several[own] == 1) & taken[end][own]]
                actions = [action for action, _ in reading.actions(chosen)] if len(chosen) else []
                if len(actions) == 1 and len(actions[0].terms) == 1:
                    part = _Part(actions[0].terms[0], actions[0].answers, free[end])
                    found.setdefault(e.view.parameter, []).append(part)
        return cls(found)


def _taken(reading: ShiftReading) -> dict[str, np.ndarray]:
    """For each output that takes shifts back, whether it does so of every basis vector."""
    taken: dict[str, np.ndarray] = {}
    for absorbed, _ in reading.maps:
        mine = taken.setdefault(absorbed.absorber, np.zeros(reading.space.count, bool))
        mine[reading.space.basis_of(absorbed.ids)] = True
    return taken


def _solved(part: _Part, moved: str) -> Solved | None:
    """The equation; None where it has no solution at almost every point, or where the map is moved itself.

    A product of generic matrices has the rank of the narrowest: none may be narrower than the outputs are many. A map
    that makes some of its outputs only, or one of several that are added up, is not followed.
    """
    count, outputs = int(part.shifts.charges.max()) + 1, part.targets.view.shape[0]
    solved = Solved(part.maps, part.targets, count)
    if len(part.maps) != 1 or moved in solved.inputs or part.maps[0].rows:
        return None
    (term,) = part.maps
    apart = len(distinct(term.inputs)) == len(term.inputs) and bool((term.coefficients != 0).all())
    reached = len(distinct(term.generators))
    return solved if apart and min(reached, *_widths(term)) >= outputs else None


def _widths(term: AffineTerm) -> list[int]:
    """How many numbers enter and leave each of the maps in a row."""
    widths = []
    for factor in term.factors:
        kept = [factor.view.shape[d] for d in factor.view.kept]
        widths += [kept[0] if factor.output_first else kept[-1], factor.inputs]
    return widths


def _shear(w: Sheared, part: _Part) -> Shear | None:
    solved = _solved(part, w.weight)
    if solved is None:
        return None
    slices = replace(part.shifts, view=replace(part.shifts.view, parameter=w.weight))
    term = ShearTerm(slices, w.inputs, w.hollow.dressing)  # whatever the constant is, a multiple of F w is not seen
    return Shear(term, AffineShift((), ()), None, solved)


def _shift(name: str, part: _Part, shape: Shape) -> Shear | None:
    """A shift of a bias, along its one wide dimension."""
    solved = _solved(part, name)
    wide = [d for d, n in enumerate(shape) if n > 1]
    if solved is None or len(wide) != 1 or part.shifts.view.kept != (wide[0],):
        return None
    return Shear(ShearTerm(part.shifts, wide[0], ()), AffineShift((), ()), None, solved)


def _centres(program: Program) -> bool:
    """Whether anything removes a mean: without, only softmax forgets shifts."""
    return any(isinstance(i.primitive, p.Normalise) and i.primitive.center for i in program.instructions)


def _output_of(name: str) -> str:
    return f"{name} (an output)"


def _maps(program: Program, single: Collection[str]) -> dict[int, tuple[str, int, int]]:
    """The places of sums of products with a weight to which no bias is added: the weight, its outputs, their place.

    What is forgotten as it is is left out: every shift of it is found without an equation.
    """
    makers, readers = program.makers(), program.readers()
    found = {}
    for place, instruction in enumerate(program.instructions):
        how = instruction.primitive.how if isinstance(instruction.primitive, p.Contract) else None
        if how is None or how.windows or instruction.result is None or _answered(instruction.result, makers, readers):
            continue
        roots = [root_parameter(x, makers) for x in instruction.operands]
        for number, (mine, theirs) in enumerate(((how.x, how.y), (how.y, how.x))):
            outputs = [how.out.index(k) for k in mine if k in how.out and k not in theirs]
            if roots[number] not in single or len(outputs) != 1 or not instruction.operands[1 - number].depends:
                continue
            if not _forgotten(instruction.result, outputs[0], readers):
                found[place] = roots[number], instruction.result.shape[outputs[0]], outputs[0]
    return found


def _forgotten(x: Value, dim: int, readers: Mapping[int, Sequence[Instruction]]) -> bool:
    """Whether all that reads a value removes a mean for each entry along ``dim``: any u is a shift as it is."""
    return all(
        isinstance(i.primitive, p.Normalise) and i.primitive.center and dim not in i.primitive.dims
        for i in readers.get(x.index, ())
    )


def _answered(x: Value, makers: Mapping[int, Instruction], readers: Mapping[int, Sequence[Instruction]]) -> bool:
    """Whether all that reads a value adds a parameter to it."""
    found = readers.get(x.index, ())
    return all(
        isinstance(i.primitive, p.Add) and any(root_parameter(y, makers) for y in i.operands if y is not x)
        for i in found
    )


def _with_outputs(program: Program, outputs: Mapping[int, tuple[str, int, int]]) -> Program:
    """The program with a bias added to what these maps make."""
    out: list[Instruction] = []
    values = program.size()
    for place, instruction in enumerate(program.instructions):
        result = instruction.result
        if place not in outputs or result is None:
            out.append(instruction)
            continue
        name, size, dim = outputs[place]
        made, bias = replace(result, index=values, depends=True), Value(values + 1, (size,), True)
        shape = tuple(n if d == dim else 1 for d, n in enumerate(result.shape))
        spread = Value(values + 2, shape, True)
        values += 3
        out.append(replace(instruction, result=made))
        out.append(replace(instruction, primitive=p.Parameter(_output_of(name), (size,)), operands=(), result=bias))
        out.append(replace(instruction, primitive=p.Rearrange(Reshape(shape)), operands=(bias,), result=spread))
        out.append(replace(instruction, primitive=p.Add(), operands=(made, spread)))
    return replace(program, instructions=tuple(out))
