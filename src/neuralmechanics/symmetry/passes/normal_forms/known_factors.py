"""Sums of products with numbers that the model holds: zeros among them are left out, and the rest are no zeros."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["KnownFactors", "with_known_factors"]


@dataclass(frozen=True)
class KnownFactors:
    """A program in which no sum runs over zeros of the model's own numbers; which buffers these zeros stand in."""

    program: Program
    buffers: frozenset[str]


@naming_the_operation
def with_known_factors(program: Program, held: Held) -> KnownFactors:
    """The program without zeros among known factors; those of which no entry is zero count as no table any more."""
    tape, buffers, whole = Tape(program.size()), set[str](), set[int]()
    for instruction in program.instructions:
        now = tape.resolved(instruction)
        factor = _factor(now)
        entries = None if factor is None else held.entries(now.operands[factor])
        if factor is None or entries is None or entries.shape != now.operands[factor].shape:
            tape.keep(now)
            continue
        if entries.all():
            whole.add(now.operands[factor].index)
            tape.keep(now)
            continue
        less = _without_zeros(tape, now, factor, entries)
        if less is None:
            tape.keep(now)
            continue
        buffers |= held.names([now.operands[factor].index])
        tape.keep(less)
    # What was kept as a table for fear of zeros in it is an ordinary factor once it is known to have none.
    numbers = program.numbers - whole
    return KnownFactors(replace(tape.program(program), numbers=numbers), frozenset(buffers))


def _factor(instruction: Instruction) -> int | None:
    """Which operand of a product is data, where the other is not."""
    primitive = instruction.primitive
    if not isinstance(primitive, (p.Multiply, p.Contract)) or primitive.function is not None:
        return None
    moved = [x.depends for x in instruction.operands]
    return moved.index(False) if sorted(moved) == [False, True] else None


def _without_zeros(tape: Tape, instruction: Instruction, factor: int, entries: np.ndarray) -> Instruction | None:
    """The sum of products over those places alone at which the factor is nonzero, where nothing else is zero then."""
    primitive = instruction.primitive
    if not isinstance(primitive, p.Contract) or primitive.how.windows:
        return None
    letters = (primitive.how.x, primitive.how.y)
    operands = list(instruction.operands)
    takes: list[tuple[str, tuple[int, ...]]] = []
    for dim, letter in enumerate(letters[factor]):
        alive = entries.any(axis=tuple(d for d in range(entries.ndim) if d != dim))
        shared = letter in letters[1 - factor] and letter not in primitive.how.out
        if not alive.all() and alive.any() and shared:
            places = tuple(np.flatnonzero(alive).tolist())
            entries = entries.take(places, axis=dim)
            takes.append((letter, places))
    # Zeros that are scattered stay in the sum, and with some left nothing would be gained.
    if not takes or not entries.all():
        return None
    other = 1 - factor
    for letter, places in takes:
        take = Take(letters[other].index(letter), places)
        if operands[other].shape[take.dim] > 1:
            operands[other] = tape.new(instruction.cause, p.Rearrange(take), operands[other])
    operands[factor] = tape.new(instruction.cause, _constant(entries))
    return replace(instruction, operands=tuple(operands))


def _constant(entries: np.ndarray) -> p.Constant:
    """These entries, written in the program."""
    held = torch.tensor(entries)
    return p.Constant(tuple(entries.shape), function=Function("entries", held.clone, settings=entries.tobytes()))
