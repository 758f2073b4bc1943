"""Modulations y = g(c)·h + b(c): a constant added to h is one added to b's weights, of which it multiplies those of g.

With g = Gc + g₀ and b = Bc + b₀, (g)·(h + δ) + b is g·h + (B + δ⊙G)c + (b₀ + δ⊙g₀), whatever c and h are. Scores of
factors with biases, p_u·q_i + b_u, are of the same kind: rows of tables are maps of data, and the product is summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.modulating.linear_parts import ENTRIES, NUMBER, LinearParts, Part, along
from neuralmechanics.symmetry.passes.modulating.matching import Added, Frame, Pair, Product
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Modulation", "modulations", "with_shifts"]


@dataclass(frozen=True, eq=False)
class Modulation:
    """A constant δ of ``shape`` on an operand of the instruction at ``position``, and where else it may be put.

    ``number``: what is left, δ times that number on the result itself.
    """

    position: int
    place: int
    shape: tuple[int, ...]
    products: tuple[Product, ...]
    number: float
    name: str


@naming_the_operation
def modulations(program: Program) -> list[Modulation]:
    """All that are found, each with maps that nothing else reads."""
    finder = _Finder(program)
    return [found for number, i in enumerate(program.instructions) for found in finder.at(number, i)]


@naming_the_operation
def with_shifts(program: Program, found: Sequence[Modulation]) -> Program:
    """The program with δ, a parameter, on what is modulated, but for what the maps take on of it."""
    at = {(m.position, m.place): m for m in found}
    out: list[Instruction] = []
    values = program.size()
    for number, instruction in enumerate(program.instructions):
        operands, result, late = list(instruction.operands), instruction.result, []
        for place, x in enumerate(instruction.operands):
            m = at.get((number, place))
            if m is None:
                continue
            delta, moved = Value(values, m.shape, True), Value(values + 1, x.shape, True)
            out.append(Instruction(p.Parameter(m.name, m.shape), (), delta, instruction.cause))
            out.append(Instruction(p.Add(), (x, delta), moved, instruction.cause))
            operands[place], values = moved, values + 2
            late += [(delta, m.number)] if m.number else []
        for delta, factor in late:
            assert result is not None
            made = replace(result, index=values)
            out.append(replace(instruction, operands=tuple(operands), result=made))
            instruction = replace(instruction, primitive=p.Add(-factor))
            operands, values = [made, delta], values + 1
        out.append(replace(instruction, operands=tuple(operands)))
    return replace(program, instructions=tuple(out))


class _Finder:
    def __init__(self, program: Program) -> None:
        self._parts = LinearParts(program, program.makers())
        self._readers = program.readers()

    def at(self, number: int, instruction: Instruction) -> Iterator[Modulation]:
        """Those of one instruction."""
        primitive, result = instruction.primitive, instruction.result
        if not isinstance(primitive, (p.Multiply, p.Contract)) or primitive.function or result is None:
            return
        x, y = instruction.operands
        how = _letters(instruction)
        if x is y or how is None or not any(isinstance(r.primitive, p.Add) for r in self._along(result)):
            return
        for place in (0, 1):
            held, other = (x, y) if place == 0 else (y, x)
            if not held.depends or not other.depends:
                continue
            parts, complete = self._parts.of(other)
            if complete and (any(part.of_data for part in parts) or self._stand(held, other)):
                found = self._modulation(number, place, instruction, how, parts)
                yield from [found] if found is not None else []

    def _stand(self, *xs: Value) -> bool:
        """Whether all are parameters and no data meet them: a table of scores as a product of factors."""
        return all(
            complete and bool(parts) and all(part.core == ENTRIES for part in parts)
            for parts, complete in map(self._parts.of, xs)
        )

    def _modulation(
        self, number: int, place: int, instruction: Instruction, how: Contraction, parts: Sequence[Part]
    ) -> Modulation | None:
        assert instruction.result is not None
        added = [*self._added(instruction.result)]
        numbers = [part for part in parts if part.core == NUMBER]
        if numbers and not isinstance(instruction.primitive, p.Multiply):
            return None
        frame = Frame.of(instruction, how, place)
        pairs = []
        for part in parts:
            if part.core == NUMBER:
                continue
            fitting = (pair for one in added if (pair := frame.paired(part, one)) is not None)
            pair = next((pair for pair in fitting if not self._escapes(pair)), None)
            if pair is None:
                return None
            pairs.append(pair)
        moving = frame.moving(pairs)
        products = [product for pair in pairs if (product := frame.product(pair, moving)) is not None]
        if len(products) < len(pairs):
            return None
        shape = tuple(n if d in moving else 1 for d, n in enumerate(instruction.operands[place].shape))
        name = f"what operation {number} modulates ({place})"
        return Modulation(number, place, shape, tuple(products), sum(part.factor for part in numbers), name)

    def _along(self, x: Value) -> Iterator[Instruction]:
        """What is done in turn to a value that nothing else reads, while it is linear."""
        while len(readers := self._readers.get(x.index, [])) == 1:
            (reader,) = readers
            once = sum(y.index == x.index for y in reader.operands) == 1
            if not once or reader.result is None or not isinstance(reader.primitive, (p.Rearrange, p.Scale, p.Add)):
                return
            yield reader
            x = reader.result

    def _added(self, x: Value) -> Iterator[Added]:
        """The parts of what is added to a value, or to what becomes of it."""
        rank = len(x.shape)
        places = tuple(along(n, d, rank) for d, n in enumerate(x.shape))
        factor = 1.0
        for reader in self._along(x):
            assert reader.result is not None
            primitive = reader.primitive
            if isinstance(primitive, p.Rearrange):
                places = tuple(primitive.view.apply(a, x.shape) for a in places)
            elif isinstance(primitive, p.Scale):
                factor *= primitive.factor
            elif isinstance(primitive, p.Add):
                own = 0 if reader.operands[0] is x else 1
                factor *= primitive.scale if own else 1.0
                if x.shape != reader.result.shape or not factor:
                    return
                for part in self._parts.of(reader.operands[1 - own])[0]:
                    after = self._parts.stepped(part, reader, 1 - own)
                    if after is not None and after.core != NUMBER:
                        yield Added(after, places, factor, reader, 1 - own)
            x = reader.result

    def _escapes(self, pair: Pair) -> bool:
        """Whether anything but the sum reads the slices that are moved, or the sum reads them twice."""
        part, moved = pair.added.part, distinct(pair.slices)
        name, view = part.parameter, part.view
        ends: list[bool] = []
        for maker in self._parts.makers.values():
            if isinstance(maker.primitive, p.Parameter) and maker.primitive.name == name and maker.result is not None:
                whole = self._parts.of(maker.result)[0][0]
                ends += self._ends(maker.result, whole, pair.added, view, moved)
        return ends != [True]

    def _ends(self, x: Value, part: Part, added: Added, view: SliceView, moved: np.ndarray) -> Iterator[bool]:
        """What reads some slices in the end: whether each is the sum, at the operand that is added."""
        for reader in self._readers.get(x.index, ()):
            for place in (place for place, y in enumerate(reader.operands) if y.index == x.index):
                after = self._parts.stepped(part, reader, place)
                if reader is added.reader or after is None or reader.result is None:
                    yield reader is added.reader and place == added.place
                # Other dimensions may have been kept so far: what is left of these slices.
                elif after.core != part.core or _met(after, view, moved, len(reader.result.shape)):
                    yield from self._ends(reader.result, after, added, view, moved)


def _met(part: Part, view: SliceView, moved: np.ndarray, rank: int) -> bool:
    """Whether any of these slices is still in the value; true where slices are others yet."""
    if part.view != view:
        return True
    return bool(np.isin(part.numbers(rank), moved).any())


def _letters(instruction: Instruction) -> Contraction | None:
    """A product entry by entry, or summed, in letters; None where it is a convolution."""
    if isinstance(instruction.primitive, p.Contract):
        return None if instruction.primitive.how.windows else instruction.primitive.how
    assert instruction.result is not None
    letters = "".join(chr(ord("a") + d) for d in range(len(instruction.result.shape)))
    x, y = (letters[len(letters) - len(v.shape) :] for v in instruction.operands)
    return Contraction(x, y, letters)
