"""Products entry by entry that are then summed, Σ_k x_k y_k, as the sums of products that they are.

However it is written, a sum of products lets channels be mixed by any matrix and its inverse transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_summed_products"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@naming_the_operation
def with_summed_products(program: Program) -> Program:
    """The program with sums and means of products of two tensors that parameters reach as ``Contract``."""
    makers, readers = program.makers(), program.readers()
    out: list[Instruction] = []
    values, found = program.size(), False
    for instruction in program.instructions:
        factors = _factors(instruction, makers, readers)
        if factors is None:
            out.append(instruction)
            continue
        steps = _contracted(instruction, *factors, first=values)
        values += len(steps) - 1
        out += steps
        found = True
    return without_dead_values(replace(program, instructions=tuple(out))) if found else program


def _factors(
    instruction: Instruction, makers: dict[int, Instruction], readers: dict[int, list[Instruction]]
) -> tuple[Value, Value] | None:
    """What is multiplied and then summed, where nothing else reads the product."""
    primitive, result = instruction.primitive, instruction.result
    if not isinstance(primitive, p.Reduce) or primitive.function is not None or result is None:
        return None
    (summed,) = instruction.operands
    maker = makers[summed.index]
    if not isinstance(maker.primitive, p.Multiply) or maker.primitive.function is not None:
        return None
    x, y = maker.operands
    bound = {d % len(summed.shape) for d in primitive.dims}
    # A factor with one entry along a summed dimension stands outside the sum: no product in that letter.
    wide = bool(bound) and all(_wide(v, summed, d) for v in (x, y) for d in bound)
    # A product with itself is a sum of squares, which orthogonal matrices alone leave as it is.
    both = x.depends and y.depends and x is not y
    alone = len(readers.get(summed.index, ())) == 1
    return (x, y) if wide and both and alone and len(summed.shape) <= len(_LETTERS) else None


def _wide(x: Value, whole: Value, dim: int) -> bool:
    """Whether x has all entries of the product along a dimension of it."""
    place = dim - len(whole.shape) + len(x.shape)
    return place >= 0 and x.shape[place] == whole.shape[dim]


def _contracted(instruction: Instruction, x: Value, y: Value, *, first: int) -> list[Instruction]:
    """The sum of products, divided by the number of summands where it is a mean, in the shape of the sum."""
    reduce = instruction.primitive
    assert isinstance(reduce, p.Reduce)
    assert instruction.result is not None
    rank = max(len(x.shape), len(y.shape))
    bound = {d % rank for d in reduce.dims}
    letters = _LETTERS[:rank]
    kept = "".join(c for d, c in enumerate(letters) if d not in bound)
    how = Contraction(letters[rank - len(x.shape) :], letters[rank - len(y.shape) :], kept)
    count = prod(max(v.shape[d - rank + len(v.shape)] for v in (x, y)) for d in bound)
    steps: list[p.Primitive] = [p.Contract(how)]
    steps += [p.Scale(1.0 / count)] if reduce.mean else []
    steps += [p.Rearrange(Reshape(instruction.result.shape))] if reduce.keepdim else []
    return _chain(instruction, steps, (x, y), first)


def _chain(
    instruction: Instruction, steps: Sequence[p.Primitive], operands: tuple[Value, ...], first: int
) -> list[Instruction]:
    """One primitive after the other, the last one with the result of the instruction."""
    out: list[Instruction] = []
    for number, primitive in enumerate(steps):
        shape = primitive.output_shape(*(x.shape for x in operands)) or ()
        last = number == len(steps) - 1
        result = instruction.result if last else Value(first + number, shape, True)
        out.append(replace(instruction, primitive=primitive, operands=operands, result=result))
        operands = () if result is None else (result,)
    return out
