"""Sums over a dimension along which tensors were put side by side: ``stack([a, b]).sum(0)`` is a + b."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_stacked_sums"]

_MANY = 16  # more parts than this are rather the steps of a sequence


@naming_the_operation
def with_stacked_sums(program: Program) -> Program:
    """The program with sums and means of few tensors, stacked for it, as sums; it computes the same."""
    readers = program.readers()
    tape, changed = Tape(program.size()), False
    for instruction in program.instructions:
        held = tape.resolved(instruction)
        parts = _stacked(tape, held, len(readers.get(held.operands[0].index, ())) if held.operands else 0)
        if parts is None or held.result is None:
            tape.keep(held)
            continue
        tape.put(held.result, _summed(tape, held, parts))
        changed = True
    return without_dead_values(tape.program(program)) if changed else program


def _stacked(tape: Tape, held: Instruction, readers: int) -> Sequence[Value] | None:
    """The tensors, of one entry along the dimension, that only this sum reads side by side."""
    reduce = held.primitive
    if not isinstance(reduce, p.Reduce) or reduce.function is not None or len(reduce.dims) != 1 or readers != 1:
        return None
    (x,) = held.operands
    maker = tape.made.get(x.index)
    if maker is None or not isinstance(maker.primitive, p.Concatenate) or not x.shape:
        return None
    rank, dim = len(x.shape), reduce.dims[0] % len(x.shape)
    side_by_side = maker.primitive.dim % rank == dim and 1 < len(maker.operands) <= _MANY
    return maker.operands if side_by_side and all(y.shape[dim] == 1 for y in maker.operands) else None


def _summed(tape: Tape, held: Instruction, parts: Sequence[Value]) -> Value:
    assert isinstance(held.primitive, p.Reduce)
    assert held.result is not None
    first, *rest = (_before(tape, held, x) for x in parts)
    total = first
    for other in rest:
        total = tape.new(held.cause, p.Add(), total, other)
    return tape.new(held.cause, p.Scale(1 / len(parts)), total) if held.primitive.mean else total


def _before(tape: Tape, held: Instruction, x: Value) -> Value:
    """A tensor before it was given the dimension along which it was stacked."""
    assert held.result is not None
    shape, maker = held.result.shape, tape.made.get(x.index)
    if x.shape == shape:
        return x
    if maker is not None and isinstance(maker.primitive, p.Rearrange) and isinstance(maker.primitive.view, Reshape):
        (inner,) = maker.operands
        if inner.shape == shape:
            return inner
    return tape.new(held.cause, p.Rearrange(Reshape(shape)), x)
