"""Which constants weights may add to what they make: softmax or a norm forgets them, or biases take them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import sparse

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import without
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.domains.representation.tensor_type import places_of
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.actions import AffineShift
from neuralmechanics.symmetry.finding.reading.absorbing import absorbed_shifts
from neuralmechanics.symmetry.finding.reading.affine_shifts import ShiftReading
from neuralmechanics.symmetry.finding.redundancy import distinct_shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.facts.shares import shares
from neuralmechanics.symmetry.passes.normal_forms.late_biases import with_late_biases
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, View
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["answered_constants", "bias_of", "bias_shape", "root_parameter", "with_biases"]

Shape = tuple[int, ...]


def answered_constants(
    captured: Captured, program: Program, weights: Sequence[Sheared], single: frozenset[str]
) -> Mapping[str, Sequence[tuple[SliceTerm, AffineShift]]]:
    """For each weight the constants that it may add to its outputs, as terms of these, with what takes them back.

    Each weight is given a bias in the program, and the shifts of it are looked for. The bias has the weight's
    dimensions, but one entry along its inputs.
    """
    shapes = {bias_of(w): bias_shape(w, captured.shapes[w.weight]) for w in weights}
    biased = with_late_biases(with_biases(program, weights, shapes), single - {w.weight for w in weights})
    whole = shares(biased)
    shifts = absorbed_shifts(
        lambda answers: Shifts(
            {**captured.shapes, **shapes},
            absorbing=True,
            complex=captured.complex,
            single=single,
            answers=answers,
            shares=whole,
        ),
        partial(interpret, biased),
        never=shapes,
    )
    space = distinct_shifts(shifts, shifts.system.solve(shifts.read()))
    reading = ShiftReading.of(shifts, space)
    return {w.weight: _answers_of(bias_of(w), reading, chosen) for w, chosen in _alone(weights, shifts, space)}


def _alone(weights: Sequence[Sheared], shifts: Shifts, space: NullSpace) -> list[tuple[Sheared, np.ndarray]]:
    """With each weight independent basis vectors that shift its bias, and none of the others'."""
    names = [name for w in weights if (name := bias_of(w)) in shifts.parameters]
    ids = {name: np.concatenate([a.reshape(-1) for a in shifts.parameters[name]]) for name in names}
    touched = {name: space.basis_of(a) for name, a in ids.items() if a.size}
    uses = np.bincount(np.concatenate([*touched.values(), np.zeros(0, np.int64)]), minlength=space.count)
    found = []
    for w in weights:
        if bias_of(w) not in touched:
            continue
        place, basis, values = space.entries(ids[bias_of(w)])
        chosen = touched[bias_of(w)][uses[touched[bias_of(w)]] == 1]
        own = np.isin(basis, chosen)
        columns = np.searchsorted(chosen, basis[own])
        matrix = sparse.csr_matrix((values[own], (place[own], columns)), shape=(ids[bias_of(w)].size, len(chosen)))
        found.append((w, chosen[independent_columns(matrix)] if len(chosen) else chosen))
    return found


def _answers_of(name: str, reading: ShiftReading, basis: np.ndarray) -> list[tuple[SliceTerm, AffineShift]]:
    """The shifts of a bias, with the same action on everything else."""
    found = []
    for action, _ in reading.actions(without(basis, reading.refused)):
        own = [t for t in action.terms if t.view.parameter == name]
        rest = tuple(t for t in action.terms if t.view.parameter != name)
        found += [(own[0], AffineShift(rest, action.answers))] if len(own) == 1 else []
    return found


def bias_of(w: Sheared) -> str:
    """The name of the bias that a weight is given."""
    return f"{w.weight} (a bias)"


def bias_shape(w: Sheared, shape: Sequence[int]) -> Shape:
    """Its shape: the weight's dimensions, with one entry along its inputs."""
    return tuple(1 if d == w.inputs else n for d, n in enumerate(shape))


def with_biases(program: Program, weights: Sequence[Sheared], shapes: Mapping[str, Shape]) -> Program:
    """The program with a bias added to what each weight makes, wherever it does."""
    makers = program.makers()
    at = {position: w for w in weights for position in w.positions}
    out: list[Instruction] = []
    values = program.size()
    for number, instruction in enumerate(program.instructions):
        result, w = instruction.result, at.get(number)
        if w is None or result is None or not isinstance(instruction.primitive, p.Contract):
            out.append(instruction)
            continue
        made = replace(result, index=values, depends=True)
        bias = Value(values + 1, shapes[bias_of(w)], True)
        out.append(replace(instruction, result=made))
        out.append(replace(instruction, primitive=p.Parameter(bias_of(w), bias.shape), operands=(), result=bias))
        values += 2
        for step, shape in _beside(w, instruction, makers, result.shape):
            moved = Value(values, shape, True)
            out.append(replace(instruction, primitive=step, operands=(bias,), result=moved))
            bias, values = moved, values + 1
        out.append(replace(instruction, primitive=p.Add(), operands=(made, bias)))
    return replace(program, instructions=tuple(out))


def _beside(
    w: Sheared, read: Instruction, makers: Mapping[int, Instruction], result: Shape
) -> Iterator[tuple[p.Primitive, Shape]]:
    """What is done to the bias until it broadcasts over the result: as to the weight, then sums over a kernel."""
    assert isinstance(read.primitive, p.Contract)
    how, (x, y) = read.primitive.how, read.operands
    held, letters, others = (x, how.x, how.y) if root_parameter(x, makers) == w.weight else (y, how.y, how.x)
    views, shapes = _views(held, makers)
    column, shape = w.inputs, tuple(1 if d == w.inputs else n for d, n in enumerate(shapes[0]))
    for view, before, after in zip(views, shapes, shapes[1:], strict=False):
        column = places_of(view, before, after)[column]
        shape = tuple(1 if d == column else n for d, n in enumerate(after))
        yield p.Rearrange(replace(view, shape=shape) if isinstance(view, (Reshape, Expand)) else view), shape
    inner = tuple(d for d, k in enumerate(letters) if k not in how.out and shape[d] > 1)
    if inner:
        shape = tuple(1 if d in inner else n for d, n in enumerate(shape))
        yield p.Reduce(inner, True, False), shape
    places = {d: how.out.index(k) for d, k in enumerate(letters) if k in how.out and k not in others}
    order = (*sorted(places, key=lambda d: places[d]), *(d for d in range(len(shape)) if d not in places))
    if order != tuple(range(len(order))):
        yield p.Rearrange(Permute(order)), tuple(shape[d] for d in order)
    sizes = tuple(n if k in places.values() else 1 for k, n in enumerate(result))
    yield p.Rearrange(Reshape(sizes)), sizes


def root_parameter(x: Value, makers: Mapping[int, Instruction]) -> str:
    """The parameter that a value is a rearrangement of; empty where it is none."""
    while isinstance((maker := makers[x.index]).primitive, p.Rearrange):
        (x,) = maker.operands
    return maker.primitive.name if isinstance(maker.primitive, p.Parameter) else ""


def _views(x: Value, makers: Mapping[int, Instruction]) -> tuple[list[View], list[Shape]]:
    """The rearrangements of a parameter that a value is, the first one first, and the shapes before and after each."""
    views: list[View] = []
    shapes = [x.shape]
    while isinstance((maker := makers[x.index]).primitive, p.Rearrange):
        views.insert(0, maker.primitive.view)
        (x,) = maker.operands
        shapes.insert(0, x.shape)
    return views, shapes
