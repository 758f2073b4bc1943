"""Which weights may add a constant vector to all that they make, because softmax (or a norm) forgets it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["forgotten_constants"]


def forgotten_constants(
    captured: Captured, program: Program, outputs: dict[str, int], single: frozenset[str]
) -> Collection[str]:
    """Those of the weights, given with the dimension of their outputs, that a bias could be added to without effect.

    Each is given one in the program, and the shifts of it are looked for.
    """
    biased, shapes = _with_biases(program, outputs)
    shifts = Shifts({**captured.shapes, **shapes}, complex=captured.complex, single=single)
    interpret(biased, shifts)
    space = shifts.system.solve(shifts.read())
    touched: dict[int, set[str]] = {}
    for name, arrays in shifts.parameters.items():
        for ids in arrays:
            for basis in np.unique(space.entries(ids)[1]).tolist():
                touched.setdefault(basis, set()).add(name)
    found = []
    for name in outputs:
        (ids,) = shifts.parameters.get(_bias_of(name), [np.zeros(0, np.int64)])
        slices, basis, _ = space.entries(ids)
        alone = len(ids) > 0 and sorted(slices.tolist()) == list(range(len(ids)))
        if alone and len(set(basis.tolist())) == len(ids) and all(len(touched[b]) == 1 for b in basis.tolist()):
            found.append(name)
    return found


def _bias_of(name: str) -> str:
    return f"{name} (a bias)"


def _with_biases(program: Program, outputs: dict[str, int]) -> tuple[Program, dict[str, tuple[int, ...]]]:
    """The program with a bias added to what each weight makes, where one sum of products reads it."""
    makers = program.makers()
    names = {}
    for instruction in program.instructions:
        if isinstance(instruction.primitive, p.Contract):
            for x in instruction.operands:
                maker = makers[x.index]
                while isinstance(maker.primitive, p.Rearrange):
                    maker = makers[maker.operands[0].index]
                if isinstance(maker.primitive, p.Parameter) and maker.primitive.name in outputs:
                    names[id(instruction)] = maker.primitive.name
    out: list[Instruction] = []
    values, shapes = program.size(), {}
    for instruction in program.instructions:
        name, result = names.get(id(instruction)), instruction.result
        if name is None or result is None or outputs[name] != result.shape[-1]:
            out.append(instruction)
            continue
        made, bias = Value(values, result.shape, True), Value(values + 1, result.shape[-1:], True)
        values += 2
        shapes[_bias_of(name)] = bias.shape
        out.append(replace(instruction, result=made))
        parameter = p.Parameter(_bias_of(name), bias.shape)
        out.append(replace(instruction, primitive=parameter, operands=(), result=bias))
        out.append(replace(instruction, primitive=p.Add(), operands=(made, bias)))
    return replace(program, instructions=tuple(out)), shapes
