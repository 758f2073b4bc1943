"""Channels that are multiplied by zeros of the model: pruned channels, branches that a buffer switches off.

What is made there is zero, so that nothing depends on what it was made of, nor on the weights that it meets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.passes.zeros.zero_factors import Masked, masked, parameter_of, whole_slices
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ZeroChannels", "with_zero_channels"]


@dataclass(frozen=True)
class ZeroChannels:
    """A program in which such channels are zeros that nothing was made for; the buffers whose values say so."""

    program: Program
    buffers: frozenset[str] = frozenset()


@naming_the_operation
def with_zero_channels(program: Program, held: Held) -> ZeroChannels:
    """The program with zeros beside the products of those channels whose factor is not zero; it computes the same.

    Factors that are zero for some entries of a channel are left as they are, and so are products of parameters.
    """
    makers = program.makers()
    tape, names, numbers = Tape(program.size()), set[str](), set(program.numbers)
    for instruction in program.instructions:
        now, result = tape.resolved(instruction), instruction.result
        found = masked(instruction, held) if result is not None else None
        if result is None or found is None or found.kept.all() or parameter_of(found.value, makers):
            restricted, behind = _restricted(tape, now, held)
            tape.keep(restricted)
            names |= behind
            continue
        if not found.kept.any():
            tape.put(result, tape.new(now.cause, p.Constant(result.shape, number=0.0)))
        elif (dim := _channels(found.entries, len(result.shape))) is not None:
            tape.put(result, _beside_zeros(tape, now, found, dim, numbers))
        else:
            tape.keep(now)
            continue
        names |= found.names
    written = replace(tape.program(program), numbers=frozenset(numbers))
    return ZeroChannels(written, frozenset(names)) if names else ZeroChannels(program)


def _restricted(tape: Tape, now: Instruction, held: Held) -> tuple[Instruction, frozenset[str]]:
    """A sum of products with a matrix of the model that says where the matrix is zero; and what it is made of."""
    if not isinstance(now.primitive, p.Contract) or now.primitive.function is not None or now.primitive.how.windows:
        return now, frozenset()
    for k, x in enumerate(now.operands):
        entries = None if x.depends or not now.operands[1 - k].depends else held.entries(x)
        if entries is not None and entries.any() and whole_slices(entries != 0):
            less = tape.new(now.cause, p.Restrict(np.asarray(entries != 0)), x)
            return replace(now, operands=(less, now.operands[1]) if k == 0 else (now.operands[0], less)), held.names(
                [x.index]
            )
    return now, frozenset()


def _channels(entries: np.ndarray, rank: int) -> int | None:
    """The dimension of the product along which alone the factor differs; None where there is no one such.

    A table of sines, which is zero at the first place of a sequence, is no factor of channels.
    """
    for dim in range(entries.ndim):
        along = np.moveaxis(entries, dim, 0).reshape(entries.shape[dim], -1)
        if entries.shape[dim] > 1 and bool((along == along[:, :1]).all()):
            return dim + rank - entries.ndim
    return None


def _beside_zeros(tape: Tape, now: Instruction, found: Masked, dim: int, numbers: set[int]) -> Value:
    """The product where the factor is not zero, and zeros, in the order of the channels."""
    result, cause = now.result, now.cause
    assert result is not None
    rank, front = len(result.shape), len(result.shape) - found.kept.ndim
    alive = np.moveaxis(found.kept, dim - front, 0).reshape(found.kept.shape[dim - front], -1)[:, 0]
    places = tuple(np.flatnonzero(alive).tolist())

    def some(x: Value, own: int) -> Value:
        if own < 0 or x.shape[own] == 1:
            return x
        taken = tape.new(cause, p.Rearrange(Take(own, places)), x)
        if x.index in numbers:
            numbers.add(taken.index)
        return taken

    if found.factor is None:  # a mask that keeps all that is left
        product = some(next(x for x in now.operands if x.depends), dim)
    elif isinstance(now.primitive, p.Contract):
        letter, how = now.primitive.how.out[dim], now.primitive.how
        each = zip(now.operands, (how.x, how.y), strict=True)
        product = tape.new(cause, now.primitive, *(some(x, letters.find(letter)) for x, letters in each))
    else:
        product = tape.new(cause, now.primitive, *(some(x, dim - rank + len(x.shape)) for x in now.operands))
    both = tape.new(cause, p.Pad(dim, 0, len(alive) - len(places)), product)
    after = iter(range(len(places), len(alive)))
    before = iter(range(len(places)))
    order = tuple(next(before) if here else next(after) for here in alive)
    return tape.new(cause, p.Rearrange(Take(dim, order)), both)
