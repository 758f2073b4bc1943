"""Where the experts of a router may stand: dimensions that count them, and parameters that belong to one of them.

What is found here is tried by relabeling (``relabelling``); nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from neuralmechanics.symmetry.finding.blocks.branches import branches
from neuralmechanics.symmetry.finding.blocks.dimensions import kept_dimensions, reshaped_place
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import Terms
from neuralmechanics.symmetry.passes.rewriting.expert_axis import sorted_list
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import COUNTS, EQUALS, GROUPS, ONE_HOT, PUT, Function
from neuralmechanics.symmetry.program.attributes.views import Reshape, Take
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["Candidate", "candidates"]

_SEVERAL = -1  # experts
Place = tuple[int, int, int]  # a value, one of its dimensions, the distance of two experts along it


@dataclass(frozen=True)
class Candidate:
    """``count`` experts; ``stacked``: where the leaves of the program count them; ``own``: the parameters of each."""

    count: int
    stacked: tuple[Place, ...]
    own: tuple[tuple[int, ...], ...]


def candidates(terms: Terms) -> Iterator[Candidate]:
    """One for each choice of the largest of some entries that parameters reach, and for branches beside one another."""
    graph = _Graph(terms)
    met: set[Place] = set()
    for instruction in terms.program.instructions:
        primitive: Any = instruction.primitive
        if not isinstance(primitive, (p.Order, p.Positions)) or not instruction.operands[0].shape:
            continue
        scores = instruction.operands[0]
        dims = [primitive.dim] if isinstance(primitive, p.Order) else list(primitive.dims)
        if len(dims) != 1:
            continue
        start = (scores.index, dims[0] % len(scores.shape), 1)
        count = scores.shape[start[1]]
        if start in met or count < 2 or terms.undecided(count):
            continue
        search = _Search(graph, count)
        search.follow(start)
        met |= search.places
        yield search.candidate()
    for found in branches(terms.program):
        search = _Search(graph, len(found.results))
        if found.place is not None and found.place in met:
            continue
        if found.place is not None:
            search.follow(found.place)
            met |= search.places
        search.tags |= {value: k for k, value in enumerate(found.results)}
        yield search.candidate()


@dataclass(eq=False)
class _Graph:
    """Who reads a value, as an operand or beside."""

    terms: Terms
    readers: dict[int, list[Instruction]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for instruction in self.terms.program.instructions:
            if instruction.result is not None:
                for index in {*(x.index for x in instruction.operands), *self.beside(instruction)}:
                    self.readers.setdefault(index, []).append(instruction)

    def beside(self, instruction: Instruction) -> list[int]:
        """What an instruction reads beside its operands."""
        primitive: Any = instruction.primitive
        function, mask = getattr(primitive, "function", None), getattr(primitive, "mask", None)
        index = getattr(primitive, "index", None)
        found = [] if function is None else [self.terms.named[n] for n in function.data if n in self.terms.named]
        if index is not None:
            listed = index.how == GROUPS
            found += [sorted_list(v, self.terms.makers) if listed else v for v in index.values]
        own = instruction.result.index if instruction.result is not None else -1
        return [n for n in dict.fromkeys([*found, *([mask] if mask is not None else [])]) if n != own]


@dataclass(eq=False)
class _Search:
    graph: _Graph
    count: int
    places: set[Place] = field(default_factory=set)
    labels: set[int] = field(default_factory=set)
    tags: dict[int, int] = field(default_factory=dict)  # values of one expert alone
    _left: list[Place | int] = field(default_factory=list)

    def follow(self, start: Place) -> None:
        """All dimensions that count the same experts, all integers that name them."""
        self._put(start)
        while self._left:
            found = self._left.pop()
            value = found if isinstance(found, int) else found[0]
            around = [self.graph.terms.makers[value], *self.graph.readers.get(value, ())]
            for instruction in around:
                if isinstance(found, int):
                    self._named(instruction, found)
                else:
                    self._counted(instruction, found)

    def _put(self, place: Place) -> None:
        value, dim, stride = place
        made = self.graph.terms.makers[value].result
        if made is None or dim >= len(made.shape) or made.shape[dim] % (self.count * stride):
            return
        if place not in self.places:
            self.places.add(place)
            self._left.append(place)

    def _label(self, value: int) -> None:
        if value not in self.labels:
            self.labels.add(value)
            self._left.append(value)

    # --- integers that name experts -----------------------------------------------------------------------------------

    def _named(self, instruction: Instruction, label: int) -> None:
        primitive: Any = instruction.primitive
        result = instruction.result
        assert result is not None
        function: Function | None = getattr(primitive, "function", None)
        name = "" if function is None else function.name
        operands = [x.index for x in instruction.operands]
        if isinstance(primitive, p.Rearrange) or (isinstance(primitive, p.Order) and label in operands):
            self._label(result.index)
        elif name == EQUALS and label in operands:
            number = function.settings if function is not None and isinstance(primitive, p.Constant) else 0
            if isinstance(number, int) and 0 <= number < self.count:
                self.tags[result.index] = number
        elif isinstance(primitive, p.Homogeneous) and label in operands:
            self._label(result.index)
        elif name == ONE_HOT and label in operands:
            if result.shape[-1] == self.count:
                self._put((result.index, len(result.shape) - 1, 1))
        elif name == COUNTS and label in operands:
            self._put((result.index, 0, 1))
        elif label in self.graph.beside(instruction):
            self._picked(instruction)

    def _picked(self, instruction: Instruction) -> None:
        primitive, result = instruction.primitive, instruction.result
        assert result is not None
        if isinstance(primitive, p.Gather):
            self._put((instruction.operands[0].index, primitive.dim, 1))
        elif isinstance(primitive, p.Scatter):
            self._put((result.index, primitive.dim % len(primitive.shape), 1))
        elif isinstance(primitive, p.Resize):
            maker = self.graph.terms.makers[instruction.operands[0].index].primitive
            if isinstance(maker, p.Spread):
                own = (
                    result
                    if primitive.function is not None and primitive.function.name == PUT
                    else instruction.operands[0]
                )
                self._put((own.index, maker.dim % len(own.shape), 1))

    # --- dimensions that count experts --------------------------------------------------------------------------------

    def _counted(self, instruction: Instruction, place: Place) -> None:
        primitive: Any = instruction.primitive
        result = instruction.result
        if result is None:
            return
        for other in self._across(instruction, place):
            self._put(other)
        value, dim, stride = place
        taken = isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Take) and primitive.view.dim == dim
        if taken and value == instruction.operands[0].index:
            experts = {n // stride % self.count for n in primitive.view.positions}
            if len(experts) == 1:
                self.tags[result.index] = experts.pop()
        joined = isinstance(primitive, p.Concatenate) and value == result.index
        if joined and len(instruction.operands) == self.count and primitive.dim % len(result.shape) == dim:
            self._parts(instruction, dim, stride)
        if isinstance(primitive, (p.Order, p.Positions)) and value == instruction.operands[0].index:
            self._places_of(instruction, dim)

    def _parts(self, instruction: Instruction, dim: int, stride: int) -> None:
        """Each part of a concatenation belongs to one expert."""
        if all(x.shape[dim] == stride for x in instruction.operands):
            for number, x in enumerate(instruction.operands):
                self.tags[x.index] = number

    def _places_of(self, instruction: Instruction, dim: int) -> None:
        primitive: Any = instruction.primitive
        bound = (primitive.dim,) if isinstance(primitive, p.Order) else primitive.dims
        result, shape = instruction.result, instruction.operands[0].shape
        assert result is not None
        if [d % len(shape) for d in bound] != [dim] or shape[dim] != self.count:
            return
        if isinstance(primitive, p.Positions):
            self._label(result.index)
            return
        for reader in self.graph.readers.get(result.index, ()):
            beside = isinstance(reader.primitive, p.Constant) and reader.cause.number == instruction.cause.number
            if beside and reader.result is not None:
                self._label(reader.result.index)

    def _across(self, instruction: Instruction, place: Place) -> Iterator[Place]:
        """The same dimension in what the instruction reads and makes."""
        primitive, result = instruction.primitive, instruction.result
        assert result is not None
        value, dim, stride = place
        if isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Reshape):
            (x,) = instruction.operands
            if value == x.index:
                yield from reshaped_place(x.shape, result.shape, place, result.index, self.count)
            if value == result.index:
                yield from reshaped_place(result.shape, x.shape, place, x.index, self.count)
            return
        groups = kept_dimensions(instruction)
        for group in groups:
            if (value, dim) in group:
                yield from ((v, d, stride) for v, d in group)
        mask = getattr(primitive, "mask", None)
        if mask is not None and (made := self.graph.terms.makers[mask].result) is not None:
            front = len(result.shape) - len(made.shape)
            if value == result.index and dim >= front and made.shape[dim - front] == result.shape[dim]:
                yield mask, dim - front, stride
            if value == mask:
                yield result.index, dim + front, stride

    # --- parameters of one expert -------------------------------------------------------------------------------------

    def candidate(self) -> Candidate:
        """Leaves that count experts, and parameters of each, in the order in which they are read."""
        makers = self.graph.terms.makers
        leaves = sorted(place for place in self.places if not makers[place[0]].operands)
        self._spread_tags()
        own: list[list[int]] = [[] for _ in range(self.count)]
        for instruction in self.graph.terms.program.instructions:
            for x in instruction.operands if instruction.result is not None else ():
                tag = self.tags.get(x.index)
                if tag not in (None, _SEVERAL) and self._is_leaf(makers[x.index]) and x.index not in own[tag]:
                    own[tag].append(x.index)
        return Candidate(self.count, tuple(leaves), tuple(map(tuple, own)))

    def _is_leaf(self, maker: Instruction) -> bool:
        """A parameter, or what is made of a buffer alone, as running statistics."""
        if isinstance(maker.primitive, p.Parameter):
            return True
        made = isinstance(maker.primitive, p.Constant) and not maker.operands and maker.result is not None
        return made and bool(self.graph.terms.leaf_name(maker.result.index if maker.result is not None else -1))

    def _spread_tags(self) -> None:
        """Forwards to what is computed of one expert's values, backwards to what nothing else reads."""
        instructions = self.graph.terms.program.instructions if self.tags else ()
        for _ in range(2 if self.tags else 0):
            for instruction in instructions:
                result = instruction.result
                if result is None or result.index in self.tags:
                    continue
                read = [*(x.index for x in instruction.operands), *self.graph.beside(instruction)]
                found = {self.tags[n] for n in read if n in self.tags}
                if found:
                    self.tags[result.index] = found.pop() if len(found) == 1 else _SEVERAL
            for instruction in reversed(instructions):
                result = instruction.result
                readers = self.graph.readers.get(result.index, ()) if result is not None else ()
                if result is None or result.index in self.tags or not readers:
                    continue
                tags = {self.tags.get(r.result.index) for r in readers if r.result is not None}
                if len(tags) == 1 and (tag := tags.pop()) not in (None, _SEVERAL):
                    self.tags[result.index] = tag
