"""Where a sum holds a bias besides: what else comes to it as a constant, the bias takes back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["taking_biases"]


def taking_biases(program: Program, single: Collection[str]) -> dict[tuple[int, int], str]:
    """For sums, by place in the program and operand, a parameter that is added to the operand in the same sum.

    ``single``: parameters that one instruction reads, once. Only sums that nothing else reads lie between.
    """
    makers, readers = program.makers(), program.readers()
    found: dict[tuple[int, int], str] = {}
    for number, instruction in enumerate(program.instructions):
        if not isinstance(instruction.primitive, p.Add) or instruction.primitive.scale != 1:
            continue
        for place in (0, 1):
            shape, other = instruction.operands[place].shape, instruction.operands[1 - place]
            if isinstance(makers[other.index].primitive, p.Parameter):
                continue  # a bias of its own, which shifts against it as it is
            bias = _within(other, shape, single, makers, readers)
            bias = bias or _behind(instruction.result, shape, single, makers, readers)
            if bias:
                found[number, place] = bias
    return found


def _within(
    x: Value,
    shape: Sequence[int],
    single: Collection[str],
    makers: Mapping[int, Instruction],
    readers: Mapping[int, Sequence[Instruction]],
) -> str:
    """A bias of the channels in a sum that only the greater sum reads; empty where there is none."""
    stack = [x]
    while stack:
        y = stack.pop()
        maker = makers[y.index]
        if isinstance(maker.primitive, p.Parameter):
            if maker.primitive.name in single and _of_channels(y.shape, shape):
                return maker.primitive.name
        elif isinstance(maker.primitive, p.Add) and maker.primitive.scale == 1 and len(readers[y.index]) == 1:
            one, other = maker.operands
            stack += [] if one is other else [one, other]
    return ""


def _behind(
    x: Value | None,
    shape: Sequence[int],
    single: Collection[str],
    makers: Mapping[int, Instruction],
    readers: Mapping[int, Sequence[Instruction]],
) -> str:
    """A bias that is added to a sum which nothing else reads."""
    while x is not None and len(reading := readers.get(x.index, ())) == 1:
        (reader,) = reading
        if not isinstance(reader.primitive, p.Add) or reader.primitive.scale != 1:
            return ""
        one, other = reader.operands
        if one is other:
            return ""
        bias = _within(other if one is x else one, shape, single, makers, readers)
        if bias:
            return bias
        x = reader.result
    return ""


def _of_channels(bias: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a bias has one entry for each channel, the last dimension."""
    return bool(bias) and bool(shape) and bias[-1] == shape[-1] and all(n == 1 for n in bias[:-1])
