"""Value numbering: values that are made by the same primitives of the same operands are equal, whatever the data."""

from __future__ import annotations

from collections.abc import Hashable

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import CAUSAL, HIDDEN, SEEN
from neuralmechanics.symmetry.program.program import Program

__all__ = ["equal_values"]

# Primitives that say fully what they compute, where they name no other function.
_FUNCTIONS = (
    p.Rearrange, p.Concatenate, p.Pad, p.Add, p.AddNumber, p.Scale, p.Multiply, p.Power, p.Exponential, p.Logarithm,
    p.Contract, p.Reduce, p.Softmax,
)  # fmt: skip
_TOLD = (HIDDEN, CAUSAL, SEEN)  # functions of which the name, with what they read, says all


@naming_the_operation
def equal_values(program: Program) -> dict[int, int]:
    """For the index of every value, that of the first value that is known to equal it.

    >>> from neuralmechanics.symmetry.program.builder import Builder
    >>> d = Builder()
    >>> x = d.parameter("x", (3,))
    >>> one, other, third = d.exponential(x), d.exponential(x), d.noise(x)
    >>> equal_values(d.program())
    {0: 0, 1: 1, 2: 1, 3: 3}
    """
    first: dict[Hashable, int] = {}
    equal: dict[int, int] = {}
    for instruction in program.instructions:
        result = instruction.result
        if result is None:
            continue
        equal[result.index] = result.index
        # Equal operands are not enough: two masks of noise differ, and of a function only its name is known.
        named = getattr(instruction.primitive, "function", None)
        told = isinstance(instruction.primitive, (p.Constant, p.Softmax)) and named is not None and named.name in _TOLD
        if told or (isinstance(instruction.primitive, _FUNCTIONS) and named is None):
            key = (instruction.primitive, tuple(equal[x.index] for x in instruction.operands))
            equal[result.index] = first.setdefault(key, result.index)
    return equal
