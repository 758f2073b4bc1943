"""Rotary embedding in a program: pairs of channels that are multiplied, as complex numbers, by numbers from the data.

However it is written: half-split (i with i + D/2) or interleaved (2i with 2i + 1), on all channels or on some, with
concatenation or with complex numbers. Only what is exactly y_i = a x_i + b x_j, y_j = a x_j - b x_i counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.facts.rotations.value_numbering import ChannelSums, Sum
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Reshape, Take
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["LookedThrough", "through_rotations"]


@dataclass(frozen=True)
class _Turn:
    """The channels are those of ``source`` in this ``order``, each pair (i, j) turned as one complex number."""

    source: Value
    order: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LookedThrough:
    """A program that looks through rotations; values of the model's own without whose entries it would see fewer."""

    program: Program
    looked_at: frozenset[int]


@naming_the_operation
def through_rotations(program: Program, held: Callable[[Value], np.ndarray | None]) -> LookedThrough | None:
    """The program that looks through rotations, as if they only put channels in order; None where there are none.

    What a complex number common to all positions does to a pair, it does before and after the rotation alike. ``held``:
    the entries of tables of cosines and sines that the model keeps.
    """
    turns, looked_at = _turns(program, held)
    if not turns:
        return None
    # Found without the tables' entries as well: then the answer does not depend on them and need not say so.
    if looked_at and _turns(program, lambda value: None)[0].keys() == turns.keys():
        looked_at = set()
    return LookedThrough(_rewritten(program, turns), frozenset(looked_at))


def _turns(program: Program, held: Callable[[Value], np.ndarray | None]) -> tuple[dict[int, _Turn], set[int]]:
    """The rotations by the instruction that ends each, and the values of which the entries were compared."""
    sums = ChannelSums(program, held)
    turns: dict[int, _Turn] = {}
    for number, instruction in enumerate(program.instructions):
        if instruction.result is None or not instruction.result.depends:
            continue
        known = sums.read(instruction)
        turn = None if known is None else _turn(known)
        if turn is not None:
            turns[number] = turn
        elif known is not None:
            sums.sums[instruction.result.index] = known
    return turns, sums.looked_at


def _turn(known: Sum) -> _Turn | None:
    """The rotation that a sum of two terms is, if it is one."""
    if len(known.terms) != 2 or known.imaginary is not None or not known.terms[0].channel.size:
        return None
    first, second = (
        np.stack([t.sign.reshape(-1), t.channel.reshape(-1), t.factor.reshape(-1)], axis=1).tolist()
        for t in known.terms
    )
    rows: dict[frozenset[int], list[tuple[Any, Any]]] = {}
    for one, other in zip(first, second, strict=True):
        rows.setdefault(frozenset((one[1], other[1])), []).append((one, other))
    # A rotation mixes two channels with each other and with no third: both appear in exactly two of its rows.
    if any(len(pair) != 2 or len(both) != 2 for pair, both in rows.items()):
        return None
    chosen: dict[tuple[Any, ...], int] = {}
    for pair, (here, there) in rows.items():
        place = _main(here, there, min(pair), max(pair))
        if place is None:
            return None
        chosen[tuple(map(tuple, here))], chosen[tuple(map(tuple, there))] = place
    order = [chosen[tuple(one), tuple(other)] for one, other in zip(first, second, strict=True)]
    pairs = tuple(sorted((min(pair), max(pair)) for pair in rows))
    return _Turn(known.source, tuple(order), pairs)


def _main(here: Any, there: Any, i: int, j: int) -> tuple[int, int] | None:
    """(i, j) where the first row is a x_i + b x_j and the second a x_j - b x_i; (j, i) the other way round."""
    a, b = ({term[1]: (term[0], term[2]) for term in row} for row in (here, there))
    for m, n in ((i, j), (j, i)):
        if a[m] == b[n] and a[n] == (-b[m][0], b[m][1]):
            return m, n
    return None


def _rewritten(program: Program, turns: dict[int, _Turn]) -> Program:
    """The ends of rotations as the channels of their sources in order, and nothing of what only they read."""
    out: list[Instruction] = []
    values = program.size()
    for number, instruction in enumerate(program.instructions):
        turn, result = turns.get(number), instruction.result
        if turn is None or result is None:
            out.append(instruction)
            continue
        first, second = zip(*turn.pairs, strict=True)
        out.append(replace(instruction, primitive=p.Pair(first, second), operands=(turn.source,), result=None))
        dim = len(turn.source.shape) - 1
        ordered = Value(values, (*turn.source.shape[:dim], len(turn.order)), True)
        values += 1
        take = p.Rearrange(Take(dim, turn.order))
        out.append(replace(instruction, primitive=take, operands=(turn.source,), result=ordered))
        out.append(replace(instruction, primitive=p.Rearrange(Reshape(result.shape)), operands=(ordered,)))
    return without_dead_values(replace(program, instructions=tuple(_joined_reshapes(out))))


def _joined_reshapes(instructions: Sequence[Instruction]) -> Iterator[Instruction]:
    """A reshape of a reshape as one: channels that a rotation splits into pairs are whole again behind it."""
    before: dict[int, Value] = {}
    for instruction in instructions:
        primitive, result = instruction.primitive, instruction.result
        if isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Reshape) and result is not None:
            (x,) = instruction.operands
            before[result.index] = before.get(x.index, x)
            instruction = replace(instruction, operands=(before[result.index],))
        yield instruction
