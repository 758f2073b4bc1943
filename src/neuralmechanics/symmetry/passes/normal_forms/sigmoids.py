"""Functions that are written out with exponentials: 1/(1 + exp(-x)) is sigmoid(x), log(1 + exp(x)) is softplus(x)."""

from __future__ import annotations

from dataclasses import replace

import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_sigmoids"]

_SIGMOID = Function("sigmoid of the negative", lambda x: torch.sigmoid(-x))
_SOFTPLUS = Function("softplus", torch.nn.functional.softplus)


@naming_the_operation
def with_sigmoids(program: Program) -> Program:
    """The program with inverses and logarithms of 1 + exp(x) as one function of x each; it computes the same."""
    makers = program.makers()
    out = [_as_function(instruction, makers) for instruction in program.instructions]
    if all(one is other for one, other in zip(out, program.instructions, strict=True)):
        return program
    return without_dead_values(replace(program, instructions=tuple(out)))


def _as_function(instruction: Instruction, makers: dict[int, Instruction]) -> Instruction:
    primitive = instruction.primitive
    inverse = isinstance(primitive, p.Power) and primitive.exponent == -1 and primitive.function is None
    if not inverse and not isinstance(primitive, p.Logarithm):
        return instruction
    x = _less_one(instruction.operands[0], makers)
    maker = None if x is None else makers[x.index]
    if maker is None or not isinstance(maker.primitive, p.Exponential):
        return instruction
    # Both are positive, which is not seen of a logarithm.
    made = p.Nonlinear(nonnegative=True, function=_SIGMOID if inverse else _SOFTPLUS)
    return replace(instruction, primitive=made, operands=maker.operands)


def _less_one(x: Value, makers: dict[int, Instruction]) -> Value | None:
    """y where x is 1 + y."""
    maker = makers[x.index]
    added = isinstance(maker.primitive, p.AddNumber) and maker.primitive.number == 1
    return maker.operands[0] if added else None
