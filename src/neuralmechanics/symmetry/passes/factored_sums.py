"""Sums x + s·x·y of a value and a multiple of itself, written as the product x·(1 + s·y)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.passes.equal_values import equal_values
from neuralmechanics.symmetry.passes.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["CommonFactor", "common_factors", "factored"]


@dataclass(frozen=True)
class CommonFactor:
    """The sum at ``place`` is x·(number + scale·y)."""

    place: int
    x: Value
    y: Value
    number: float
    scale: float


def common_factors(program: Program) -> list[CommonFactor]:
    """Sums of which one summand is the other times a value that depends on parameters."""
    found: list[CommonFactor] = []
    equal: dict[int, int] = {}
    makers = program.makers()
    for place, instruction in enumerate(program.instructions):
        if not isinstance(instruction.primitive, p.Add) or instruction.result is None:
            continue
        scale = instruction.primitive.scale
        one, other = instruction.operands
        for x, multiple, number, factor in ((one, other, 1.0, scale), (other, one, scale, 1.0)):
            maker = makers[multiple.index]
            if not isinstance(maker.primitive, p.Multiply) or maker.primitive.function is not None:
                continue
            equal = equal or equal_values(program)
            y = _cofactor(maker, x, equal)
            if y is not None and y.depends and x.shape == instruction.result.shape and equal[x.index] != equal[y.index]:
                found.append(CommonFactor(place, x, y, number, factor))
                break
    return found


def _cofactor(maker: Instruction, x: Value, equal: dict[int, int]) -> Value | None:
    """What x is multiplied by."""
    left, right = maker.operands
    if equal[left.index] == equal[x.index]:
        return right
    return left if equal[right.index] == equal[x.index] else None


def factored(program: Program, found: Collection[CommonFactor]) -> tuple[Program, dict[int, CommonFactor]]:
    """The program with these sums as products, and by the index of each factor number + scale·y what it is of."""
    places = {one.place: one for one in found}
    out: list[Instruction] = []
    factors: dict[int, CommonFactor] = {}
    values = program.size()
    for place, instruction in enumerate(program.instructions):
        one = places.get(place)
        if one is None:
            out.append(instruction)
            continue
        multiple, factor = (Value(values + k, one.y.shape, True) for k in range(2))
        values += 2
        out.append(replace(instruction, primitive=p.Scale(one.scale), operands=(one.y,), result=multiple))
        out.append(replace(instruction, primitive=p.AddNumber(one.number), operands=(multiple,), result=factor))
        out.append(replace(instruction, primitive=p.Multiply(), operands=(one.x, factor)))
        factors[factor.index] = one
    return without_dead_values(replace(program, instructions=tuple(out))), factors
