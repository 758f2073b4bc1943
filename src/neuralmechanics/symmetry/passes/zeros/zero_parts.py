"""Concatenations with zeros between their parts: a sum of paddings, whose zeros scale with anything.

So of a bias that is assembled, [q, 0, v] for keys without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ZeroParts", "with_zero_parts"]


@dataclass(frozen=True)
class ZeroParts:
    """A program in which zeros are no part of a concatenation, and the buffers of which zeros were."""

    program: Program
    buffers: frozenset[str]


@naming_the_operation
def with_zero_parts(program: Program, held: Held) -> ZeroParts:
    """[a, 0, b] as [a, 0, 0] + [0, 0, b]; it computes the same."""
    tape, buffers = Tape(program.size()), set[str]()
    for instruction in program.instructions:
        now = tape.resolved(instruction)
        zero = _zeros(tape, now, held)
        if now.result is None or not any(zero) or all(zero):
            tape.keep(now)
            continue
        buffers |= held.names(_source(tape, x).index for x, known in zip(now.operands, zero, strict=True) if known)
        tape.put(now.result, _sum(tape, now, zero))
    return ZeroParts(tape.program(program), frozenset(buffers))


def _zeros(tape: Tape, instruction: Instruction, held: Held) -> list[bool]:
    """Which parts of a concatenation are zeros, of the code or of the model's own numbers."""
    if not isinstance(instruction.primitive, p.Concatenate):
        return []
    return [not x.depends and (x.constant_number() == 0 or _all_zero(tape, x, held)) for x in instruction.operands]


def _source(tape: Tape, x: Value) -> Value:
    """What a value was rearranged from."""
    while (maker := tape.made.get(x.index)) is not None and isinstance(maker.primitive, p.Rearrange):
        x = maker.operands[0]
    return x


def _all_zero(tape: Tape, x: Value, held: Held) -> bool:
    x = _source(tape, x)
    entries = held.entries(x) if x.number is None else None
    return entries is not None and entries.size > 0 and not entries.any()


def _sum(tape: Tape, joined: Instruction, zero: list[bool]) -> Value:
    """The sum of all runs of parts that are not zero, each between zeros."""
    assert isinstance(joined.primitive, p.Concatenate)
    xs, cause = joined.operands, joined.cause
    dim = joined.primitive.dim % len(xs[0].shape)
    ends = list(accumulate(x.shape[dim] for x in xs))
    total: Value | None = None
    for held, run in groupby(range(len(xs)), zero.__getitem__):
        if held:
            continue
        places = list(run)
        part = xs[places[0]]
        if places[1:]:
            part = tape.new(cause, joined.primitive, *(xs[k] for k in places))
        # Zeros of a padding take any label; as parts they would be data, whose label is zero, and end what meets them.
        before, after = ends[places[0]] - xs[places[0]].shape[dim], ends[-1] - ends[places[-1]]
        if before or after:
            part = tape.new(cause, p.Pad(dim, before, after), part)
        total = part if total is None else tape.new(cause, p.Add(1.0), total, part)
    assert total is not None
    return total
