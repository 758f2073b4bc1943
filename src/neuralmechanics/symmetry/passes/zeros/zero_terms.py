"""Sums of products over entries that are known to be zero: the rest of the sum is the same, and reads less.

What a weight multiplies with zeros gets no gradient, and zeros scale with anything: W [x, 0] is W' x, for the columns
W' that meet x.
"""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.zeros.known_zeros import Zeros, known_zeros, without
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["without_zero_terms"]


@naming_the_operation
def without_zero_terms(program: Program) -> Program:
    """The program in which no sum of products runs over known zeros; it computes the same."""
    zeros = known_zeros(program)
    values = program.size()
    out: list[Instruction] = []
    for instruction in program.instructions:
        operands = list(instruction.operands)
        letters_of = _letters(instruction)
        for letter, places in _summed_zeros(instruction, zeros).items():
            for k, letters in enumerate(letters_of):
                if letter not in letters or operands[k].shape[letters.index(letter)] == 1:
                    continue
                dim = letters.index(letter)
                take = Take(dim, without(operands[k].shape[dim], places))
                taken = replace(operands[k], index=values, shape=take.output_shape(operands[k].shape))
                values += 1
                out.append(replace(instruction, primitive=p.Rearrange(take), operands=(operands[k],), result=taken))
                operands[k] = taken
        out.append(replace(instruction, operands=tuple(operands)))
    return without_dead_values(replace(program, instructions=tuple(out))) if values > program.size() else program


def _letters(instruction: Instruction) -> tuple[str, ...]:
    """The letters of both factors of a sum of products."""
    primitive = instruction.primitive
    return (primitive.how.x, primitive.how.y) if isinstance(primitive, p.Contract) else ()


def _summed_zeros(instruction: Instruction, zeros: dict[int, Zeros]) -> dict[str, frozenset[int]]:
    """The letters over which some, but not all, terms of the sum are known to be zero, and which."""
    primitive = instruction.primitive
    if not isinstance(primitive, p.Contract) or primitive.function is not None:
        return {}
    how = primitive.how
    # A tap meets another entry at each place of its window: a zero at one place is no zero of the tap.
    windowed = {letter for w in how.windows for letter in (w.x, w.kernel, w.out)}
    found: dict[str, frozenset[int]] = {}
    for letters, x in zip((how.x, how.y), instruction.operands, strict=True):
        for dim, places in zeros.get(x.index, {}).items():
            letter = letters[dim]
            if letter not in how.out and letter not in windowed:
                found[letter] = found.get(letter, frozenset()) | places
    sizes = how.sizes(*(x.shape for x in instruction.operands))
    return {letter: places for letter, places in found.items() if places and len(places) < sizes[letter]}
