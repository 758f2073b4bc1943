"""Relabeled entries that are put at places which the data decide, as they are or added to what is there."""

from __future__ import annotations

from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved, Order, added, inverse
from neuralmechanics.symmetry.finding.blocks.relabelling.sums import accumulated
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import UnfollowedError
from neuralmechanics.symmetry.finding.blocks.relabelling.together import Reading, together
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import COUNTING
from neuralmechanics.symmetry.program.program import Instruction
from neuralmechanics.symmetry.program.value import Value

__all__ = ["scattered"]


def scattered(reading: Reading, instruction: Instruction) -> Moved:
    """What is put at renamed places stands in another order; rows in one order put at places in the same one do not."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Scatter)
    assert result is not None
    if primitive.function is None:
        return together(reading, instruction)
    dim, source = primitive.dim % len(primitive.shape), reading.value(instruction.operands[-1])
    named = [reading.terms.data(name) for name in primitive.function.data]
    places = [reading.of(n) for n in named]
    if source.names is not None or len(places) != 1:
        if not all(v.plain for v in places) or not source.plain:
            raise UnfollowedError("several indices")
        places = [Moved(-1)]
    (index,) = places
    dims = {d: order for d, order in source.dims.items() if d != dim}
    full = bool(named) and len(reading.terms.shape(named[0])) == len(primitive.shape)
    rows = index.dims.get(dim if full else 0)
    others = {d: order for d, order in index.dims.items() if d != (dim if full else 0)}
    if any(dims.get(d) != order for d, order in others.items()) or (not full and len(index.dims) > 1):
        raise UnfollowedError("places in another order")
    names: Order | None = None
    if rows != source.dims.get(dim) and not source.number:
        if not _is_count(reading, instruction) or rows is None or index.names is not None or dim in source.dims:
            raise UnfollowedError("rows put at places in another order")
        names = inverse(rows)  # where each row stands, counted anew
    elif index.names is not None:
        dims[dim] = inverse(index.names)
    return _onto(reading, instruction, source, dims, names, index)


def _is_count(reading: Reading, instruction: Instruction) -> bool:
    """Whether the numbers 0, 1, … are put."""
    return len(instruction.operands) == 1 and _counts(reading.makers[instruction.operands[0].index].primitive)


def _counts(primitive: p.Primitive) -> bool:
    function = getattr(primitive, "function", None)
    return function is not None and function.name == COUNTING


def _onto(
    reading: Reading, instruction: Instruction, source: Moved, dims: dict[int, Order], names: Order | None, index: Moved
) -> Moved:
    primitive, result, terms = instruction.primitive, instruction.result, reading.terms
    assert isinstance(primitive, p.Scatter)
    assert result is not None
    if len(instruction.operands) == 1:
        return Moved(reading.made(instruction, [source]), dims, names)
    onto = reading.value(instruction.operands[0])
    if names is not None or onto.names is not None or (onto.dims != dims and not onto.number):
        raise UnfollowedError("entries put onto others in another order")
    more = instruction.operands[-1] if primitive.adds else _increase(reading, instruction)
    if more is None:
        return Moved(reading.made(instruction, [onto, source]), dims)
    change = reading.value(more)
    if change.dims != source.dims or change.names is not None:
        raise UnfollowedError("entries added to others in another order")
    own = terms.put(primitive, terms.of.__getitem__, terms.of[more.index])
    now = terms.put(primitive, reading.any_term, reading.whole(change))
    parts = accumulated(onto, terms.of[instruction.operands[0].index]) + (
        [(now, 1.0), (own, -1.0)] if now != own else []
    )
    return Moved(terms.of[result.index], dims, None, added(parts))


def _increase(reading: Reading, instruction: Instruction) -> Value | None:
    """What is added in x[rows] = x[rows] + y, which is x plus y put into zeros."""
    primitive, makers = instruction.primitive, reading.makers
    maker = makers[instruction.operands[-1].index]
    if not isinstance(primitive, p.Scatter) or not isinstance(maker.primitive, p.Add) or maker.primitive.scale != 1:
        return None
    named = [reading.terms.data(name) for name in primitive.function.data] if primitive.function is not None else []
    for read, other in (maker.operands, maker.operands[::-1]):
        gather = makers[read.index]
        if not isinstance(gather.primitive, p.Gather) or other.shape != instruction.operands[-1].shape:
            continue
        same = reading.terms.of[gather.operands[0].index] == reading.terms.of[instruction.operands[0].index]
        at = gather.primitive.dim == primitive.dim and list(gather.primitive.index.values) == named
        if same and at and gather.primitive.index.how == ():
            return other
    return None
