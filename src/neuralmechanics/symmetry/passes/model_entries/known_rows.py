"""Rows of tables at places that the model itself tells: held in a buffer, joined from parts, or functions of words.

What remains a gather names any row, as far as is known, so that of all its rows only what they share is followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import INDEX, Function
from neuralmechanics.symmetry.program.attributes.index import Index
from neuralmechanics.symmetry.program.attributes.views import Expand, Reshape, Take
from neuralmechanics.symmetry.program.conditions import PaddingRow
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["KnownRows", "with_known_rows"]


@dataclass(frozen=True)
class KnownRows:
    """A program in which rows at known places are taken; by table, the buffers that hold these places.

    ``everywhere``: those of tables that are read elsewhere too, where equal rows may be told to be equal.
    """

    program: Program
    buffers: Mapping[str, set[str]] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()


@naming_the_operation
def with_known_rows(program: Program, held: Held) -> KnownRows:
    """The program with rows at known places as slices, and functions of words as tables by words."""
    gathers = [i for i in program.instructions if isinstance(i.primitive, p.Gather) and i.operands[0].depends]
    if not gathers:
        return KnownRows(program)
    makers = program.makers()
    padded = {c.table for c in program.conditions if isinstance(c, PaddingRow)}
    work = _Rows(Tape(program.size()), held, makers, padded, _words(gathers, makers))
    for instruction in program.instructions:
        now = work.tape.resolved(instruction)
        value = work.rows(now, instruction.operands[0]) if isinstance(now.primitive, p.Gather) else None
        if value is None or now.result is None:
            work.tape.keep(now)
        else:
            work.tape.put(now.result, value)
    reads = [name for i in program.instructions for x in i.operands if (name := _table(x, makers, direct=True))]
    shared = {name for name in work.buffers if reads.count(name) > 1}
    everywhere = frozenset[str]().union(*(work.buffers[name] for name in shared))
    return KnownRows(work.tape.program(program), work.buffers, everywhere)


def _table(x: Value, makers: Mapping[int, Instruction], direct: bool = False) -> str:
    """The parameter that a value is, rearranged or not."""
    while not direct and isinstance((maker := makers[x.index]).primitive, p.Rearrange):
        x = maker.operands[0]
    primitive = makers[x.index].primitive if x.index in makers else None
    return primitive.name if isinstance(primitive, p.Parameter) else ""


def _words(gathers: Sequence[Instruction], makers: Mapping[int, Instruction]) -> dict[int, int]:
    """For indices that name rows of a whole table as they stand: how many there are, so that none is as large."""
    found: dict[int, int] = {}
    for gather in gathers:
        primitive = gather.primitive
        assert isinstance(primitive, p.Gather)
        index = _plain_index(primitive)
        # An index that may be negative names rows from the end: nothing is then known of its numbers.
        if index is None or not _as_they_stand(primitive.function) or primitive.some:
            continue
        sizes = [gather.operands[0].shape[primitive.dim], found.get(index, 1 << 30)]
        parts = [index, *(x.index for x in _parts(makers.get(index)))]
        found |= dict.fromkeys(parts, min(sizes))
    return found


def _plain_index(gather: p.Gather) -> int | None:
    """The value that alone says which rows, entry by entry."""
    plain = len(gather.index.values) == 1 and not gather.index.how and gather.function is not None
    return gather.index.values[0] if plain else None


def _as_they_stand(function: Function | None) -> bool:
    if function is None or len(function.data) != 1:
        return False
    return bool((function.apply(torch.tensor([-1])) == -1).all())


def _parts(maker: Instruction | None) -> tuple[Value, ...]:
    """The parts of an index that was joined of several, or lengthened; none where it was not."""
    return maker.operands if maker is not None and isinstance(maker.primitive, (p.Concatenate, p.Pad)) else ()


@dataclass(eq=False)
class _Rows:
    tape: Tape
    held: Held
    makers: Mapping[int, Instruction]
    padded: set[int]
    words: dict[int, int]
    buffers: dict[str, set[str]] = field(default_factory=dict)

    def rows(self, now: Instruction, before: Value) -> Value | None:
        """What stands for a gather; None where no more is known of its places."""
        gather = now.primitive
        assert isinstance(gather, p.Gather)
        index = _plain_index(gather)
        table = _table(before, self.makers)
        # A row of padding, which gets no gradient, is noted of a gather.
        if not table or gather.function is None or gather.dim != 0 or before.index in self.padded:
            return None
        names = gather.function.data
        read = [tensor for name in names if (tensor := self.held.named(name)) is not None]
        if names and len(read) == len(names):
            places = gather.function.apply(*read).reshape(gather.index_shape)
            self.buffers.setdefault(table, set()).update(self.held.behind(names))
            return self._taken(now.cause, now.operands[0], np.asarray(places))
        made = None if index is None else self.makers.get(index)
        if made is None or made.result is None or made.result.shape != gather.index_shape:
            return None
        if not _as_they_stand(gather.function):
            return None
        return self._picked(now.cause, now.operands[0], made.result, table)

    def _picked(self, cause: Location, x: Value, index: Value, table: str) -> Value | None:
        """Rows of ``x`` at the places that a value holds."""
        maker = self.makers[index.index]
        entries = self.held.entries(index)
        if entries is not None:
            self.buffers.setdefault(table, set()).update(self.held.names([index.index]))
            return self._taken(cause, x, entries)
        if isinstance(maker.primitive, (p.Concatenate, p.Pad)):
            return self._joined(cause, x, maker, table)
        return self._by_word(cause, x, index, table)

    def _joined(self, cause: Location, x: Value, maker: Instruction, table: str) -> Value | None:
        """The rows of each part of an index, side by side; zeros before and behind an index name row 0."""
        joint = maker.primitive
        assert isinstance(joint, (p.Concatenate, p.Pad))
        margins = (joint.before, joint.after) if isinstance(joint, p.Pad) else (0, 0)
        rows = [self._picked(cause, x, part, table) or self._named(cause, x, part) for part in maker.operands]
        if min(margins) < 0 or any(row is None for row in rows):
            return None
        shape = maker.operands[0].shape
        dim = joint.dim % len(shape)
        before, after = (self._zeroth(cause, x, shape, dim, n) for n in margins)
        parts = [row for row in (*before, *rows, *after) if row is not None]
        return self.tape.new(cause, p.Concatenate(dim), *parts)

    def _zeroth(self, cause: Location, x: Value, shape: Sequence[int], dim: int, count: int) -> list[Value]:
        zeros = np.zeros([count if d == dim else n for d, n in enumerate(shape)])
        return [self._taken(cause, x, zeros)] if count else []

    def _named(self, cause: Location, x: Value, index: Value) -> Value | None:
        """The rows that an index names, of which no more is known."""
        name = self.held.operation(index)
        if not name:
            return None
        places = Function(INDEX, lambda index: index, (name,))
        return self.tape.new(cause, p.Gather(0, index.shape, Index((index.index,)), False, places), x)

    def _by_word(self, cause: Location, x: Value, index: Value, table: str) -> Value | None:
        """T[f(w)] as row w of the table T[f(0)], T[f(1)], …, for words w that name rows of another table."""
        for word, count in self.words.items():
            base = self.makers[word].result
            if word == index.index or base is None or base.shape != index.shape:
                continue
            found = self.held.tabulated(index, base, count)
            if found is None or not ((found[0] >= 0) & (found[0] < x.shape[0])).all():
                continue
            told = found[0]
            self.buffers.setdefault(table, set()).update(found[1])
            rows = self.tape.new(cause, p.Rearrange(Take(0, tuple(told.astype(int).tolist()))), x)
            return self._named(cause, rows, base)
        return None

    def _taken(self, cause: Location, x: Value, entries: np.ndarray) -> Value:
        """The rows at these places: those that are the same along a dimension of the index once."""
        shape, single = entries.shape, entries
        for dim in range(single.ndim):
            if single.shape[dim] > 1 and (single == single.take([0], dim)).all():
                single = single.take([0], dim)
        places = tuple(int(k) % x.shape[0] for k in single.reshape(-1))
        rows = self.tape.new(cause, p.Rearrange(Take(0, places)), x)
        rows = self.tape.new(cause, p.Rearrange(Reshape((*single.shape, *x.shape[1:]))), rows)
        return (
            rows if single.shape == shape else self.tape.new(cause, p.Rearrange(Expand((*shape, *x.shape[1:]))), rows)
        )
