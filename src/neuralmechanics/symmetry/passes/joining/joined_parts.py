"""Concatenations of which every part is the same function of other entries, as that function of all entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.joining.laid_blocks import blocks_of
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Parts", "joined"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Parts:
    """What is known of a program before it is written anew: equal values, and how many instructions read each."""

    equal: dict[int, int]
    readers: dict[int, int]

    @staticmethod
    def of(program: Program) -> Parts:
        return Parts(equal_values(program), {index: len(read) for index, read in program.readers().items()})

    def same(self, values: Sequence[Value]) -> bool:
        return len({self.equal.get(x.index, x.index) for x in values}) == 1

    def alone(self, x: Value) -> bool:
        """Whether one instruction reads it."""
        return self.readers.get(x.index, 1) == 1


@dataclass(frozen=True, eq=False)
class _Whole:
    """Parts one behind the other are entries ``positions`` of what ``write`` writes."""

    positions: tuple[int, ...]
    write: Callable[[], Value]


def joined(tape: Tape, parts: Parts, concatenation: Instruction) -> Value | None:
    """What the concatenation amounts to; None where its parts belong apart."""
    assert isinstance(concatenation.primitive, p.Concatenate)
    if len(concatenation.operands) < 2:
        return None
    dim = concatenation.primitive.dim % len(concatenation.operands[0].shape)
    whole = _Joining(tape, parts, concatenation.cause).whole(concatenation.operands, dim)
    if whole is None:
        return None
    value = whole.write()
    if whole.positions == tuple(range(len(whole.positions))):
        return value
    return tape.new(concatenation.cause, p.Rearrange(Take(dim, whole.positions)), value)


@dataclass(frozen=True, eq=False)
class _Joining:
    tape: Tape
    parts: Parts
    cause: Location

    def whole(self, values: Sequence[Value], dim: int) -> _Whole | None:
        """What the values are, one behind the other along ``dim``: every entry of some tensor once, or a function."""
        found = self._entries(values, dim)
        # A part that something else reads is computed in any case; joined as well it would stand there twice, with two
        # labels for one tensor.
        if found is not None or not all(self.parts.alone(x) for x in values):
            return found
        makers = [self.tape.made.get(x.index) for x in values]
        first, *others = makers
        if first is None or any(m is None or type(m.primitive) is not type(first.primitive) for m in others):
            return None
        made = [m for m in makers if m is not None]
        if isinstance(first.primitive, p.Contract):
            return self._products(made, dim)
        if isinstance(first.primitive, p.Rearrange):
            return self._views(made, dim) or self._blocks(values, dim)
        alike = all(m.primitive == first.primitive for m in made) and len({len(m.operands) for m in made}) == 1
        named = getattr(first.primitive, "function", None)
        # Data of a run belong to each part: there is no tensor that holds those of the whole.
        if not alike or not isinstance(first.primitive, _APART) or (named is not None and named.data):
            return None
        return self._same(made, dim, [m.operands for m in made], first.primitive)

    def _entries(self, values: Sequence[Value], dim: int) -> _Whole | None:
        """The entries of one tensor along ``dim``, each once."""
        bases, places = [], list[int]()
        for x in values:
            maker = self.tape.made.get(x.index)
            view = maker.primitive.view if maker is not None and isinstance(maker.primitive, p.Rearrange) else None
            if maker is not None and isinstance(view, Take) and view.dim == dim:
                bases.append(maker.operands[0])
                places += view.positions
            else:
                bases.append(x)
                places += range(x.shape[dim])
        if not self.parts.same(bases) or sorted(places) != list(range(bases[0].shape[dim])):
            return None
        return _Whole(tuple(places), lambda: bases[0])

    def _same(
        self, made: Sequence[Instruction], dim: int, operands: Sequence[Sequence[Value]], primitive: p.Primitive
    ) -> _Whole | None:
        """The same primitive of operands that are parts along a dimension, or the same for all parts."""
        results = [m.result for m in made]
        if any(r is None for r in results):
            return None
        axes = [
            axis_map(primitive, [x.shape for x in xs], r.shape)
            for xs, r in zip(operands, results, strict=True)
            if r is not None
        ]
        wholes: list[_Whole | None] = []
        for k in range(len(operands[0])):
            mine = [xs[k] for xs in operands]
            along = {own[k].index(dim) if dim in own[k] else None for own in axes}
            place = along.pop() if len(along) == 1 else None
            found = self.whole(mine, place) if place is not None else None
            if found is None and not (self.parts.same(mine) and (place is None or mine[0].shape[place] == 1)):
                return None
            wholes.append(found)
        return self._written(wholes, list(operands[0]), lambda *xs: self.tape.new(self.cause, primitive, *xs))

    def _written(
        self, wholes: Sequence[_Whole | None], shared: Sequence[Value], write: Callable[..., Value]
    ) -> _Whole | None:
        """The function of whole operands, where all have their entries in one order, and of shared ones."""
        orders = {w.positions for w in wholes if w is not None}
        if len(orders) != 1:
            return None
        return _Whole(
            orders.pop(),
            lambda: write(*(x if w is None else w.write() for w, x in zip(wholes, shared, strict=True))),
        )

    def _views(self, made: Sequence[Instruction], dim: int) -> _Whole | None:
        """The same rearrangement, up to the size along the dimension."""
        views = [m.primitive.view for m in made if isinstance(m.primitive, p.Rearrange)]
        first = views[0]
        if any(type(view) is not type(first) for view in views):
            return None
        if isinstance(first, (Permute, Take)):
            same = all(view == first for view in views)
            return self._same(made, dim, [m.operands for m in made], p.Rearrange(first)) if same else None
        shapes = {(*view.shape[:dim], *view.shape[dim + 1 :]) for view in views if isinstance(view, (Reshape, Expand))}
        results = [m.result for m in made if m.result is not None]
        if len(shapes) != 1:
            return None
        own = [axis_map(m.primitive, [m.operands[0].shape], r.shape)[0] for m, r in zip(made, results, strict=True)]
        along = {axes.index(dim) if dim in axes else None for axes in own}
        place = along.pop() if len(along) == 1 else None
        found = None if place is None else self.whole([m.operands[0] for m in made], place)
        total = sum(r.shape[dim] for r in results)
        shape = (*results[0].shape[:dim], total, *results[0].shape[dim + 1 :])
        view: View = replace(first, shape=shape)
        return self._written([found], [made[0].operands[0]], lambda x: self.tape.new(self.cause, p.Rearrange(view), x))

    def _blocks(self, values: Sequence[Value], dim: int) -> _Whole | None:
        """All blocks of one tensor along another dimension."""
        found = blocks_of(values, dim, self.tape, self.parts.same, self.parts.alone)
        if found is None:
            return None
        return _Whole(tuple(range(found.shape[dim])), lambda: found.write(self.tape, self.cause))

    def _products(self, made: Sequence[Instruction], dim: int) -> _Whole | None:
        """The same sum of products, whatever its letters and the order of its factors are."""
        forms = [self._form(m) for m in made]
        if any(form is None for form in forms):
            return None
        told = [form for form in forms if form is not None]
        how = told[0][0]
        operands = []
        for form, xs in told:
            turned = _canonical(Contraction(form.y, form.x, form.out))
            if form != how and turned != how:
                return None
            operands.append(xs if form == how else (xs[1], xs[0]))
        return self._same(made, dim, operands, p.Contract(how))

    def _form(self, product: Instruction) -> tuple[Contraction, tuple[Value, Value]] | None:
        """The sum of products of factors before their dimensions were permuted."""
        primitive = product.primitive
        if not isinstance(primitive, p.Contract) or primitive.function is not None or primitive.how.windows:
            return None
        factors = []
        for x, letters in zip(product.operands, (primitive.how.x, primitive.how.y), strict=True):
            maker = self.tape.made.get(x.index)
            while maker is not None and isinstance(maker.primitive, p.Rearrange):
                view = maker.primitive.view
                if not isinstance(view, Permute):
                    break
                letters = "".join(letters[view.order.index(d)] for d in range(len(view.order)))
                x = maker.operands[0]
                maker = self.tape.made.get(x.index)
            factors.append((x, letters))
        (x, left), (y, right) = factors
        return _canonical(Contraction(left, right, primitive.how.out)), (x, y)


_APART = (
    p.Add, p.AddNumber, p.Scale, p.Multiply, p.Power, p.Homogeneous, p.Exponential, p.Logarithm, p.Nonlinear, p.Maximum,
    p.Reduce, p.Extremum, p.Softmax, p.Normalise,
)  # fmt: skip


def _canonical(how: Contraction) -> Contraction:
    """The same with letters in the order in which they come in the result, and then in the factors."""
    names = dict(zip(dict.fromkeys(how.out + how.x + how.y), _LETTERS, strict=False))
    x, y, out = ("".join(names[letter] for letter in part) for part in (how.x, how.y, how.out))
    return Contraction(x, y, out)
