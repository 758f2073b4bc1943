"""Branches beside one another, in which values of one kind are computed from parameters of their own.

Heads that are modules and whose results are concatenated, networks whose results are added up: each may be a block that
changes places with the others. What is found here is where to look; what holds is seen by relabeling.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["Branches", "branches"]

_MANY = 64  # branches beyond which nothing is looked for
_SHARED = -1
Makers = Mapping[int, Instruction]
Readers = Mapping[int, Sequence[Instruction]]


@dataclass(frozen=True)
class Branches:
    """``results``: one value of each branch, in the order of the blocks.

    ``place``: a value, its dimension that counts the branches, and the distance of two of them along it: where they are
    concatenated, or where each takes its share of. None where they are only added up.
    """

    results: tuple[int, ...]
    place: tuple[int, int, int] | None = None


def branches(program: Program) -> Iterator[Branches]:
    """Of every concatenation of alike parts and of every sum with alike terms."""
    makers = program.makers()
    readers: dict[int, list[Instruction]] = {}
    for instruction in program.instructions:
        for x in instruction.operands:
            readers.setdefault(x.index, []).append(instruction)
    for instruction in program.instructions:
        if isinstance(instruction.primitive, p.Concatenate):
            yield from _concatenated(instruction, makers)
        elif isinstance(instruction.primitive, p.Add) and not _goes_on(instruction, readers):
            yield from _added(instruction, readers, makers)


def _concatenated(instruction: Instruction, makers: Makers) -> Iterator[Branches]:
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Concatenate)
    assert result is not None
    parts = [x.index for x in instruction.operands]
    if not 2 <= len(parts) <= _MANY or len({x.shape for x in instruction.operands}) > 1 or len(set(parts)) < len(parts):
        return
    cones = _cones(parts, makers)
    if all(cone.computes for cone in cones) and len({cone.kind for cone in cones}) == 1:
        dim = primitive.dim % len(result.shape)
        yield Branches(tuple(parts), (result.index, dim, result.shape[dim] // len(parts)))


def _added(instruction: Instruction, readers: Readers, makers: Makers) -> Iterator[Branches]:
    terms = _terms(instruction, readers, makers)
    if not 2 <= len(terms) <= _MANY or len(set(terms)) < len(terms):
        return
    alike: dict[tuple[tuple[int, ...], ...], list[tuple[int, _Cone]]] = {}
    for term, cone in zip(terms, _cones(terms, makers), strict=True):
        if cone.computes:
            alike.setdefault(cone.kind, []).append((term, cone))
    for group in alike.values():
        if len(group) > 1:
            yield _counted(group, makers)


def _counted(group: Sequence[tuple[int, _Cone]], makers: Makers) -> Branches:
    """With the dimension of one value of which each branch takes an entry of its own, where there is such."""
    for value, dim, _ in group[0][1].taken:
        made = makers[value].result
        entries = [[k for v, d, k in cone.taken if (v, d) == (value, dim)] for _, cone in group]
        if made is None or made.shape[dim] != len(group) or any(len(own) != 1 for own in entries):
            continue
        order = {own[0]: term for own, (term, _) in zip(entries, group, strict=True)}
        if sorted(order) == list(range(len(group))):
            return Branches(tuple(order[k] for k in sorted(order)), (value, dim, 1))
    return Branches(tuple(term for term, _ in group))


def _goes_on(instruction: Instruction, readers: Readers) -> bool:
    """Whether a sum is but a part of a longer one."""
    read = readers.get(instruction.result.index, ()) if instruction.result is not None else ()
    return len(read) == 1 and isinstance(read[0].primitive, p.Add)


def _terms(instruction: Instruction, readers: Readers, makers: Makers) -> list[int]:
    """The terms of a sum: sums that nothing else reads are looked into."""
    found: list[int] = []
    waiting = [instruction]
    while waiting and len(found) <= _MANY:
        for x in waiting.pop().operands:
            maker = makers[x.index]
            if isinstance(maker.primitive, p.Add) and len(readers[x.index]) == 1:
                waiting.append(maker)
            else:
                found.append(x.index)
    return sorted(found)


@dataclass(eq=False)
class _Cone:
    """What one branch alone is computed from, and what it reads of values that others read, too.

    ``kind``: the shapes of its parameters; ``taken``: a shared value, its dimension, the one entry that is taken.
    """

    parameters: list[tuple[int, ...]] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    taken: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def kind(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self.parameters)

    @property
    def computes(self) -> bool:
        """Whether it makes something of its own of what others read, too."""
        return bool(self.parameters and self.reads)

    def add(self, instruction: Instruction) -> None:
        if isinstance(instruction.primitive, p.Parameter) and instruction.result is not None:
            self.parameters.append(instruction.result.shape)
        view = getattr(instruction.primitive, "view", None)
        for x in instruction.operands:
            self.reads.append(x.index)
            if isinstance(view, Take) and len(view.positions) == 1:
                self.taken.append((x.index, view.dim, view.positions[0]))


def _cones(results: Sequence[int], makers: Makers) -> list[_Cone]:
    """What each of the values is computed from and no other: backwards, the last made first."""
    owner = {value: k for k, value in enumerate(results)}
    cones = [_Cone() for _ in results]
    waiting = [-value for value in owner]
    heapq.heapify(waiting)
    while waiting:
        # All that read it were made later, so whose it is is known.
        value = -heapq.heappop(waiting)
        k, maker = owner[value], makers[value]
        if k == _SHARED:
            continue
        cones[k].add(maker)
        for x in maker.operands:
            if x.index not in owner:
                owner[x.index] = k
                heapq.heappush(waiting, -x.index)
            elif owner[x.index] != k:
                owner[x.index] = _SHARED
    for cone in cones:
        cone.reads = [value for value in cone.reads if owner[value] == _SHARED]
        cone.taken = [place for place in cone.taken if owner[place[0]] == _SHARED]
    return cones
