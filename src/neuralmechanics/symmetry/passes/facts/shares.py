"""Shares: products x·(Σx)⁻¹, which add up to one along the dimension that was summed."""

from __future__ import annotations

from collections.abc import Mapping

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["shares"]


@naming_the_operation
def shares(program: Program) -> dict[int, int]:
    """For the places of such products in the program, the dimension along which they add up to one.

    >>> from neuralmechanics.symmetry.program.builder import Builder
    >>> d = Builder()
    >>> x = d.nonlinear(d.parameter("x", (2, 3)))
    >>> _ = d.mul(x, d.power(d.reduce(x, [1], True, False), -1.0))
    >>> shares(d.program())
    {4: 1}
    """
    makers = program.makers()
    same: dict[int, int] | None = None
    found: dict[int, int] = {}
    for number, instruction in enumerate(program.instructions):
        if not isinstance(instruction.primitive, p.Multiply) or instruction.primitive.function is not None:
            continue
        for x, y in (instruction.operands, instruction.operands[::-1]):
            total = _one_over_sum(y, makers) if x.depends and y.depends else None
            if total is None:
                continue
            whole, dim = total
            if whole.index != x.index:
                same = equal_values(program) if same is None else same
            one = whole.index == x.index or (same is not None and same[whole.index] == same[x.index])
            if one and _before_repetition(y, makers) == tuple(1 if d == dim else n for d, n in enumerate(x.shape)):
                found[number] = dim
    return found


def _one_over_sum(y: Value, makers: Mapping[int, Instruction]) -> tuple[Value, int] | None:
    """The tensor over whose sum along one dimension y is one, in the same order of entries; and the dimension."""
    power = False
    while True:
        maker = makers[y.index]
        primitive = maker.primitive
        if isinstance(primitive, p.Power) and primitive.function is None and primitive.exponent == -1 and not power:
            power = True
        elif isinstance(primitive, p.Reduce):
            plain = power and primitive.function is None and not primitive.mean and len(primitive.dims) == 1
            (x,) = maker.operands
            return (x, primitive.dims[0] % len(x.shape)) if plain and x.shape else None
        elif not (isinstance(primitive, p.Rearrange) and isinstance(primitive.view, (Reshape, Expand))):
            return None
        (y,) = maker.operands


def _before_repetition(y: Value, makers: Mapping[int, Instruction]) -> tuple[int, ...] | None:
    """The shape of y before it was broadcast in the end; None where it was so in between, and its order is lost."""
    rank, last = len(y.shape), makers[y.index]
    while isinstance(last.primitive, p.Power) or _expands(last):
        (y,) = last.operands
        last = makers[y.index]
    shape = (1,) * (rank - len(y.shape)) + y.shape
    while not isinstance(last.primitive, p.Reduce):
        if _expands(last):
            return None
        last = makers[last.operands[0].index]
    return shape


def _expands(step: Instruction) -> bool:
    return isinstance(step.primitive, p.Rearrange) and isinstance(step.primitive.view, Expand)
