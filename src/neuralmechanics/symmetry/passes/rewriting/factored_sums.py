"""Sums x + s·x·y of a value and a multiple of itself, written as the product x·(1 + s·y)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["CommonFactor", "common_factors", "factored"]


@dataclass(frozen=True)
class CommonFactor:
    """The sum at ``place`` is x·(number + scale·Π rest)."""

    place: int
    x: Value
    rest: tuple[Value, ...]
    number: float
    scale: float


@naming_the_operation
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
            times, factors = _factors(multiple, makers)
            if len(factors) < 2 or x.shape != instruction.result.shape:
                continue
            # Numbered at the first candidate alone: most programs have none, and numbering walks through all of it.
            equal = equal or equal_values(program)
            same = [k for k, y in enumerate(factors) if equal[y.index] == equal[x.index]]
            rest = tuple(y for k, y in enumerate(factors) if k not in same[:1])
            if len(same) == 1 and any(y.depends for y in rest):
                found.append(CommonFactor(place, x, rest, number, factor * times))
                break
    return found


def _factors(value: Value, makers: dict[int, Instruction]) -> tuple[float, list[Value]]:
    """A number and the values of which a value is the product."""
    maker = makers[value.index]
    if isinstance(maker.primitive, p.Scale):
        times, factors = _factors(maker.operands[0], makers)
        return times * maker.primitive.factor, factors
    if not isinstance(maker.primitive, p.Multiply) or maker.primitive.function is not None:
        return 1.0, [value]
    parts = [_factors(x, makers) for x in maker.operands]
    return parts[0][0] * parts[1][0], parts[0][1] + parts[1][1]


@naming_the_operation
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
        product = _product(one, instruction, values)
        values += len(product) - 1
        out += product
        factors[product[-1].operands[1].index] = one
    return without_dead_values(replace(program, instructions=tuple(out))), factors


def _product(one: CommonFactor, instruction: Instruction, first: int) -> list[Instruction]:
    """x·(number + scale·Π rest), in the place of the sum; new values are numbered from ``first``."""
    steps: list[tuple[p.Primitive, tuple[Value, ...]]] = [(p.Multiply(), (y,)) for y in one.rest[1:]]
    steps += [(p.Scale(one.scale), ()), (p.AddNumber(one.number), ())]
    held, out = one.rest[0], []
    for number, (primitive, others) in enumerate(steps):
        shape = primitive.output_shape(held.shape, *(y.shape for y in others))
        made = Value(first + number, shape or (), True)
        out.append(replace(instruction, primitive=primitive, operands=(held, *others), result=made))
        held = made
    return [*out, replace(instruction, primitive=p.Multiply(), operands=(one.x, held))]
