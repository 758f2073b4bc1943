"""Squares of sums written out, |x|² + |y|² - 2⟨x, y⟩, as what they are: here the squared distance Σ_k (x_k - y_k)².

What is added to x and y alike shows in each of the three terms and in their sum not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.facts.exponential_sums import Axes, viewed
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_squared_distances"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class _Square:
    """factor·Σ x² over some dimensions of x; for each dimension of the value, that of x that it runs along."""

    x: Value
    axes: Axes
    summed: frozenset[int]
    factor: float


@dataclass(frozen=True)
class _Term:
    """One summand, with its factor."""

    factor: float
    value: Value


@dataclass(frozen=True)
class _Distance:
    """factor·Σ (x + ratio·y)² and what is added to it; letters name dimensions, the summed ones come last in order."""

    factor: float
    ratio: float
    x: Value
    y: Value
    letters: tuple[str, str]
    order: str
    kept: int
    rest: tuple[_Term, ...]


@naming_the_operation
def with_squared_distances(program: Program) -> Program:
    """The program with each squared distance between values that parameters reach as the square of a difference."""
    search = _Search(program)
    out: list[Instruction] = []
    values, changed = program.size(), False
    for instruction in program.instructions:
        found = search.distance(instruction)
        if found is None:
            out.append(instruction)
            continue
        steps = _written(found, instruction, values)
        values, changed = values + len(steps), True
        out += steps
    return without_dead_values(replace(program, instructions=tuple(out))) if changed else program


class _Search:
    def __init__(self, program: Program) -> None:
        self._makers = program.makers()
        products = (i for i in program.instructions if isinstance(i.primitive, p.Contract))
        possible = any(isinstance(i.primitive, p.Power) for i in program.instructions) and any(products)
        self._equal = equal_values(program) if possible else None
        self._held: dict[int, tuple[int, int]] = {}  # of each sum, how many squares and products are among its summands

    def distance(self, instruction: Instruction) -> _Distance | None:
        """The squared distance that a sum holds, if there is one. Sums are asked in the order of the program."""
        if self._equal is None or not isinstance(instruction.primitive, p.Add) or instruction.result is None:
            return None
        # Counted as the sums grow: to collect the summands at each of N sums would cost N².
        counts = [self._counts(self._unscaled(x)[1]) for x in instruction.operands]
        squares, products = (sum(count) for count in zip(*counts, strict=True))
        self._held[instruction.result.index] = squares, products
        return self._found(instruction, instruction.result) if squares > 1 and products else None

    def _counts(self, x: Value) -> tuple[int, int]:
        """How many squares and products are among the summands of a value."""
        product = isinstance(self._makers[x.index].primitive, p.Contract)
        return self._held.get(x.index) or (int(self._square(x) is not None), int(product))

    def _found(self, instruction: Instruction, result: Value) -> _Distance | None:
        """The first product among the summands with a square of each of its factors beside it."""
        assert self._equal is not None
        terms = self._terms(instruction)
        squares: dict[int, list[_Term]] = {}
        for term in terms:
            if (root := self._square(term.value)) is not None:
                squares.setdefault(self._equal[root.x.index], []).append(term)
        for product in terms:
            maker = self._makers[product.value.index]
            if not isinstance(maker.primitive, p.Contract):
                continue
            letters = maker.primitive.how.x, maker.primitive.how.y
            roots = [self._plain(x, mine)[0] for x, mine in zip(maker.operands, letters, strict=True)]
            some, others = (squares.get(self._equal[x.index], []) for x in roots)
            for square, other in ((one, two) for one in some for two in others if one is not two):
                rest = tuple(t for t in terms if all(t is not used for used in (product, square, other)))
                found = self._matched(product, square, other, rest, result)
                if found is not None:
                    return found
        return None

    def _terms(self, instruction: Instruction) -> list[_Term]:
        """The summands of a sum, those of its summands included."""
        out: list[_Term] = []
        waiting = [(1.0, instruction)]
        while waiting:
            factor, adding = waiting.pop()
            if not isinstance(adding.primitive, p.Add):
                out += [] if adding.result is None else [_Term(factor, adding.result)]
                continue
            steps = zip((factor, factor * adding.primitive.scale), adding.operands, strict=True)
            for times, x in reversed(list(steps)):
                more, root = self._unscaled(x)
                waiting.append((times * more, self._makers[root.index]))
        return out

    def _unscaled(self, x: Value) -> tuple[float, Value]:
        """What a value is a multiple of, and the factor."""
        factor = 1.0
        while isinstance((maker := self._makers[x.index]).primitive, p.Scale):
            factor, x = factor * maker.primitive.factor, maker.operands[0]
        return factor, x

    def _matched(
        self, product: _Term, square: _Term, other: _Term, rest: tuple[_Term, ...], result: Value
    ) -> _Distance | None:
        maker = self._makers[product.value.index]
        if not isinstance(maker.primitive, p.Contract) or maker.primitive.function or maker.primitive.how.windows:
            return None
        how = maker.primitive.how
        one, two = self._square(square.value), self._square(other.value)
        if one is None or two is None or result.shape != product.value.shape:
            return None
        summed = "".join(c for c in how.x if c not in how.out)
        if not summed or any(c not in how.y for c in summed) or not all(x.depends for x in maker.operands):
            return None
        (x, mine, once), (y, theirs, twice) = (
            self._plain(v, letters) for v, letters in zip(maker.operands, (how.x, how.y), strict=True)
        )
        if not (self._is(one, x, mine, how.out, summed) and self._is(two, y, theirs, how.out, summed)):
            return None
        # c|x|² + e|y|² + f⟨x, y⟩ with f² = 4 c e
        c, e, f = square.factor * one.factor, other.factor * two.factor, product.factor * once * twice
        if c == 0 or not math.isclose(f * f, 4 * c * e, rel_tol=1e-12):
            return None
        return _Distance(c, f / (2 * c), x, y, (mine, theirs), how.out + summed, len(how.out), rest)

    def _is(self, square: _Square, x: Value, letters: str, out: str, summed: str) -> bool:
        """Whether it is Σ x² over the summed letters, entry by entry where the product has those of x."""
        assert self._equal is not None
        if self._equal[square.x.index] != self._equal[x.index]:
            return False
        if square.summed != {d for d, c in enumerate(letters) if c in summed}:
            return False
        front = len(out) - len(square.axes)
        placed = {axis: k + front for k, axis in enumerate(square.axes) if axis is not None and x.shape[axis] > 1}
        kept = {d: out.index(c) for d, c in enumerate(letters) if c in out and x.shape[d] > 1}
        return front >= 0 and placed == kept

    def _plain(self, x: Value, letters: str) -> tuple[Value, str, float]:
        """What a value is a multiple of, its dimensions in another order; the letters of these, and the factor."""
        factor = 1.0
        while True:
            maker = self._makers[x.index]
            if isinstance(maker.primitive, p.Scale):
                factor *= maker.primitive.factor
            elif isinstance(maker.primitive, p.Rearrange) and isinstance(maker.primitive.view, Permute):
                order = maker.primitive.view.order
                letters = "".join(letters[order.index(d)] for d in range(len(order)))
            else:
                return x, letters, factor
            x = maker.operands[0]

    def _square(self, value: Value) -> _Square | None:
        """The sum of squares that a value is."""
        maker = self._makers[value.index]
        primitive = maker.primitive
        if isinstance(primitive, p.Rearrange):
            inner = self._square(maker.operands[0])
            shapes = maker.operands[0].shape, value.shape
            axes = None if inner is None else viewed(inner.axes, primitive.view, *shapes)
            return None if inner is None or axes is None else replace(inner, axes=axes)
        if isinstance(primitive, p.Power) and primitive.exponent == 2 and primitive.function is None:
            root = self._makers[maker.operands[0].index]
            is_root = isinstance(root.primitive, p.Power) and root.primitive.exponent == 0.5
            return self._square(root.operands[0]) if is_root else None
        if not isinstance(primitive, p.Reduce) or primitive.mean or primitive.function is not None:
            return None
        squared = self._makers[maker.operands[0].index]
        if not isinstance(squared.primitive, p.Power) or squared.primitive.exponent != 2 or squared.primitive.function:
            return None
        named = _LETTERS[: len(squared.operands[0].shape)]
        x, letters, factor = self._plain(squared.operands[0], named)
        bound = {d % len(named) for d in primitive.dims}
        place = [letters.index(c) for c in named]
        dims = [d for d in range(len(named)) if primitive.keepdim or d not in bound]
        axes = tuple(None if d in bound else place[d] for d in dims)
        return _Square(x, axes, frozenset(place[d] for d in bound), factor * factor)


def _written(found: _Distance, instruction: Instruction, first: int) -> list[Instruction]:
    """factor·Σ (x + ratio·y)² + rest, in the place of the sum; new values are numbered from ``first``."""
    out: list[Instruction] = []

    def write(primitive: p.Primitive, xs: Sequence[Value]) -> Value:
        shape = primitive.output_shape(*(x.shape for x in xs)) or ()
        made = Value(first + len(out), shape, any(x.depends for x in xs))
        out.append(replace(instruction, primitive=primitive, operands=tuple(xs), result=made))
        return made

    sides = []
    for x, letters in zip((found.x, found.y), found.letters, strict=True):
        order = tuple(sorted(range(len(letters)), key=lambda d: found.order.index(letters[d])))
        ordered = write(p.Rearrange(Permute(order)), [x])
        sizes = dict(zip(letters, x.shape, strict=True))
        sides.append(write(p.Rearrange(Reshape(tuple(sizes.get(c, 1) for c in found.order))), [ordered]))
    square = write(p.Power(2.0), [write(p.Add(found.ratio), sides)])
    total = write(p.Reduce(tuple(range(found.kept, len(found.order))), False, False), [square])
    total = write(p.Scale(found.factor), [total])
    for term in found.rest:
        total = write(p.Add(term.factor), [total, term.value])
    assert math.prod(total.shape) == math.prod(instruction.result.shape if instruction.result is not None else ())
    out[-1] = replace(out[-1], result=instruction.result)
    return out
