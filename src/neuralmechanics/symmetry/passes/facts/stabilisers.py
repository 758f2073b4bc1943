"""Which added constants are stabilisers (eps): those that keep a size away from zero where it is divided by.

A positive constant of at most ``LARGEST``, added to a *size* (a value that is never negative by the way it is made: a
sum of squares, a variance, a norm, an absolute value), counts as an eps where every reader of the result takes its root
or divides by it; so does a bound from below. A size that normalises is of order one: the constant breaks the scaling by
a hundredth at most; the eps of fused norms counts at any size, for it can be nothing else. A constant added to anything
else (an activation, however small the constant) is no stabiliser: it ends the symmetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["LARGEST", "stabilised"]

LARGEST = 1e-2


@naming_the_operation
def stabilised(program: Program) -> Program:
    """The program with its stabilisers marked: x + eps, and max(x, eps) as |x + eps|."""
    readers = program.readers()
    out: list[Instruction] = []
    values = program.size()
    for instruction in program.instructions:
        eps = _eps(instruction.primitive)
        held, result = instruction.operands[:1], instruction.result
        if eps is None or result is None or not held[0].nonnegative or not _divides(result, readers):
            out.append(instruction)
            continue
        added = p.AddNumber(eps, Breaking("eps", eps, instruction.cause.place))
        if isinstance(instruction.primitive, p.AddNumber):
            out.append(replace(instruction, primitive=added))
            continue
        between = replace(result, index=values)
        values += 1
        out.append(replace(instruction, primitive=added, result=between))
        # The operand is x + eps now: eps is taken off again, so that the program computes max(x, eps) as before.
        bounded = Function("clamp", lambda x, eps=eps: (x - eps).clamp_min(eps), settings=eps)
        out.append(replace(instruction, primitive=p.Homogeneous(True, bounded), operands=(between,)))
    return replace(program, instructions=tuple(out))


def _eps(primitive: p.Primitive) -> float | None:
    """The constant that may be a stabiliser."""
    number = None
    if isinstance(primitive, p.AddNumber):
        number = primitive.number
    elif isinstance(primitive, p.Nonlinear):
        number = primitive.floor
    return number if number is not None and 0 < number <= LARGEST else None


def _divides(value: Value, readers: dict[int, list[Instruction]]) -> bool:
    """Whether all that reads the value takes its root or divides by it."""
    read: Sequence[Instruction] = readers.get(value.index, ())
    # What nothing reads divides nothing, though ``all`` of no readers is true.
    return bool(read) and all(_root_or_quotient(instruction, readers) for instruction in read)


def _root_or_quotient(instruction: Instruction, readers: dict[int, list[Instruction]]) -> bool:
    primitive = instruction.primitive
    if isinstance(primitive, p.Rearrange) and instruction.result is not None:
        return _divides(instruction.result, readers)
    return isinstance(primitive, p.Power) and primitive.exponent < 1
