"""Channels that a rotary embedding leaves as they are: those whose frequency is zero, of which cosines are ones.

x cos θ + x̃ sin θ is x wherever the sines are zero and the cosines one, so that the channels of a pair part there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["StillChannels", "with_still_channels"]


@dataclass(frozen=True)
class StillChannels:
    """A program in which channels that nothing is added to are passed on; the buffers whose values say so."""

    program: Program
    buffers: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class _Part:
    """A summand x·d: what is moved, the known factor, and its entries by channel."""

    moved: Value
    factor: Value
    entries: np.ndarray


@naming_the_operation
def with_still_channels(program: Program, held: Held) -> StillChannels:
    """The program with a·x + b·z as a·x wherever b is zero and a one number for good; it computes the same."""
    makers = program.makers()
    tape, names = Tape(program.size()), set[str]()
    for instruction in program.instructions:
        now, result = tape.resolved(instruction), instruction.result
        parts = _parts(instruction, makers, held)
        still = [] if len(parts) < 2 else _still(parts)
        if result is None or not still:
            tape.keep(now)
            continue
        names |= held.names(part.factor.index for part in parts)
        tape.put(result, _parted(tape, now, parts, still))
    return StillChannels(tape.program(program), frozenset(names))


def _parts(added: Instruction, makers: dict[int, Instruction], held: Held) -> list[_Part]:
    """The two products with known factors that a sum adds up, the one with the sines last; or none."""
    if not isinstance(added.primitive, p.Add) or added.result is None or not added.result.shape:
        return []
    found = []
    for x in added.operands:
        maker = makers[x.index]
        moved = [y for y in maker.operands if y.depends]
        if not isinstance(maker.primitive, p.Multiply) or maker.primitive.function is not None or len(moved) != 1:
            return []
        (factor,) = (y for y in maker.operands if not y.depends)
        if x.shape != added.result.shape or moved[0].shape != x.shape or factor.shape[-1:] != x.shape[-1:]:
            return []
        entries = held.entries(factor)
        if entries is None or not entries.size or entries.shape != factor.shape:
            return []
        found.append(_Part(moved[0], factor, entries.reshape(-1, entries.shape[-1])))
    second = added.primitive.scale
    if second == 1 and not (found[1].entries == 0).all(axis=0).any():
        return found[::-1]
    return found if abs(second) == 1 else []


def _still(parts: list[_Part]) -> list[int]:
    """The channels of which the second factor is zero and the first the same number in every place."""
    cosines, sines = (part.entries for part in parts)
    numbers = cosines[0]
    alike = (cosines == numbers).all(axis=0) & (sines == 0).all(axis=0) & (numbers > 0)
    # A rotation may come with one factor for all channels; the numbers of still ones then are equal.
    return np.flatnonzero(alike & (numbers == max(numbers[alike], default=0.0))).tolist()


def _parted(tape: Tape, now: Instruction, parts: list[_Part], still: list[int]) -> Value:
    """The sum over the other channels, beside the still ones as they were, in their order."""
    cause, size = now.cause, parts[0].entries.shape[-1]
    others = [k for k in range(size) if k not in still]
    products = [tape.made[x.index] for x in now.operands]
    first = next(i for i in products if any(x.index == parts[0].factor.index for x in i.operands))
    (source,) = (x for x in first.operands if x.depends)
    number = float(parts[0].entries[0, still[0]])
    source = source if number == 1 else tape.new(cause, p.Scale(number), source)
    if not others:
        return source

    def taken(x: Value, channels: list[int]) -> Value:
        return tape.new(cause, p.Rearrange(Take(len(x.shape) - 1, tuple(channels))), x)

    turned = [tape.new(i.cause, i.primitive, *(taken(x, others) for x in i.operands)) for i in products]
    total = tape.new(cause, now.primitive, *turned)
    joined = tape.new(cause, p.Concatenate(len(total.shape) - 1), total, taken(source, still))
    places = {channel: k for k, channel in enumerate([*others, *still])}
    return taken(joined, [places[k] for k in range(size)])
