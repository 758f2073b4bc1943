"""Results that are the same number whatever the parameters are: what they were made of is not read.

The softmax over one entry is one, what a single entry is above its mean is zero, and so is what is multiplied by zeros:
attention over one key, a window of one patch, a branch that is switched off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.passes.zeros.known_zeros import Zeros, known_zeros
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.conditions import SingleEntry
from neuralmechanics.symmetry.program.facts import number_of
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_known_results"]


@naming_the_operation
def with_known_results(program: Program) -> Program:
    """The program with constants for results that no parameter moves; it computes the same.

    >>> from neuralmechanics.symmetry.program.builder import Builder
    >>> d = Builder()
    >>> weights = d.softmax(d.parameter("x", (2, 1)), 1)
    >>> d.fix(d.mul(weights, d.parameter("y", (2, 3))))
    >>> print(with_known_results(d.program()))
    """
    zeros, makers = known_zeros(program), program.makers()
    tape, found, conditions = Tape(program.size()), False, set[SingleEntry]()
    for instruction in program.instructions:
        now, result = tape.resolved(instruction), instruction.result
        if result is None or not result.depends or isinstance(now.primitive, p.Parameter):
            tape.keep(now)
            continue
        number = _number(now, result, zeros.get(result.index, {}))
        if number is not None:
            tape.put(result, tape.new(now.cause, p.Constant(result.shape, number=number)))
            if isinstance(now.primitive, (p.Softmax, p.Normalise)):
                conditions.add(SingleEntry(_reaching(instruction, makers), now.cause.place))
        elif any(x.depends for x in now.operands):
            tape.keep(now)
        else:
            tape.put(result, tape.new(now.cause, now.primitive, *now.operands))
        found |= number is not None
    if not found:
        return program
    said = (*program.conditions, *sorted(conditions, key=lambda c: c.place))
    return without_dead_values(replace(tape.program(program), conditions=said))


def _reaching(instruction: Instruction, makers: Mapping[int, Instruction]) -> frozenset[str]:
    """The parameters that an instruction reads, through whatever."""
    names, seen, left = set[str](), set[int](), [x.index for x in instruction.operands]
    while left:
        index = left.pop()
        if index in seen:
            continue
        seen.add(index)
        if isinstance(parameter := makers[index].primitive, p.Parameter):
            names.add(parameter.name)
        left += [x.index for x in makers[index].operands]
    return frozenset(names)


def _number(instruction: Instruction, result: Value, zeros: Zeros) -> float | None:
    """What fills the result; nothing fills one without entries, and zero does as well as anything."""
    whole = any(len(places) == result.shape[dim] for dim, places in zeros.items())
    if whole or math.prod(result.shape) == 0:
        return 0.0
    return number_of(instruction.primitive, instruction.operands)
