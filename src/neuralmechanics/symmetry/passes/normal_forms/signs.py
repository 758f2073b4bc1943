"""Choices by the sign of what is chosen: of x, of multiples of x and of zeros, which are homogeneous functions of x.

``where(x > 0, x, 0)`` is the positive part of x, ``where(x > 0, x, x/10)`` a leaky one: f(a·x) = a·f(x) for a > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_sign_functions"]


@naming_the_operation
def with_sign_functions(program: Program) -> Program:
    """The program with choices by the sign of what is chosen as homogeneous functions; it computes the same."""
    if not any(
        isinstance(i.primitive, (p.Mask, p.Select)) and i.primitive.mask is not None for i in program.instructions
    ):
        return program
    makers, equal = program.makers(), equal_values(program)
    out = [_as_function(instruction, makers, equal) or instruction for instruction in program.instructions]
    if all(one is other for one, other in zip(out, program.instructions, strict=True)):
        return program
    return without_dead_values(replace(program, instructions=tuple(out)))


def _as_function(instruction: Instruction, makers: dict[int, Instruction], equal: dict[int, int]) -> Instruction | None:
    """The choice as a function of the one value whose sign decides it; None where it is none."""
    primitive, result = instruction.primitive, instruction.result
    if not isinstance(primitive, (p.Mask, p.Select)) or primitive.mask is None or result is None:
        return None
    if primitive.function is None or len(primitive.function.data) != 1 or primitive.mask not in makers:
        return None
    test = makers[primitive.mask]
    # Comparisons with zero are written as the power 0: a sign is what no positive factor changes.
    if not isinstance(test.primitive, p.Power) or test.primitive.exponent or test.primitive.function is None:
        return None
    x = _signed(test.operands[0], makers)
    if x.shape != result.shape or test.primitive.function.data or (isinstance(primitive, p.Mask) and primitive.number):
        return None
    multiples = [_multiple(operand, x, makers, equal) for operand in instruction.operands]
    if any(times is None for times in multiples):
        return None
    apply = _chosen(primitive.function.apply, test.primitive.function.apply, [times or 0.0 for times in multiples])
    # A function with f(a·x) = a·f(x) for a > 0 is known by its values at 1 and -1.
    above, below = apply(torch.tensor([1.0, -1.0], dtype=torch.float64)).tolist()
    name = f"{above:g}x above 0, {below and -below:g}x below"
    function = Function(name, apply, (), (above, below))
    made = p.Homogeneous(above >= 0 and below >= 0, function, above == below)
    return replace(instruction, primitive=made, operands=(x,), result=replace(result, nonnegative=made.nonnegative))


def _signed(x: Value, makers: dict[int, Instruction]) -> Value:
    """What has the sign: the identity, marked as a function without a derivative, is looked through."""
    maker = makers[x.index]
    function = maker.primitive.function if isinstance(maker.primitive, p.Homogeneous) else None
    return maker.operands[0] if function is not None and function.name == "identity" else x


def _multiple(y: Value, x: Value, makers: dict[int, Instruction], equal: dict[int, int]) -> float | None:
    """a where y = a·x, entry by entry."""
    if y.constant_number() == 0:
        return 0.0
    if equal[y.index] == equal[x.index]:
        return 1.0
    maker = makers[y.index]
    if not isinstance(maker.primitive, p.Scale):
        return None
    times = _multiple(maker.operands[0], x, makers, equal)
    return None if times is None else times * maker.primitive.factor


def _chosen(
    choose: Callable[..., Any], test: Callable[..., Any], multiples: Sequence[float]
) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        chosen: Tensor = choose(*(times * x for times in multiples), test(x) != 0)
        return chosen

    return apply
