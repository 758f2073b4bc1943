"""Shifts: how every tensor changes, to first order, when constants are added to parameters.

A change is a sum of terms u_k·φ_k: unknown coefficients u_k times functions φ_k of the data and the other parameters.
Of a function only this is kept: an identity, and which of its axes lies along which dimension of the tensor. Two terms
that agree in both may cancel; along the other dimensions the function is constant. Batch norm, layer norm and softmax
kill what is constant along their axes; nonlinear operations admit no change at all. Both are linear constraints on the
coefficients, and the translations are their null space.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neuralmechanics.symmetry.domains.shift.answers import (
    Absorbed,
    Answer,
    mapped_constant,
    maps_of,
    parameter_behind,
    rows_alike,
)
from neuralmechanics.symmetry.domains.shift.constraints import ShiftConstraints
from neuralmechanics.symmetry.domains.shift.movement import placed_in, viewed_dims, viewed_terms, viewed_whole
from neuralmechanics.symmetry.domains.shift.products import contracted_term, one_along, times, zero_along
from neuralmechanics.symmetry.domains.shift.variation import (
    Change,
    ChangeTerm,
    Name,
    aligned,
    based,
    by_function,
    first_entries,
    letters_of,
    restricted_term,
    wide_dims,
    without_dims,
)
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Take, View

__all__ = ["Shifts"]

Shape = tuple[int, ...]
ELEMENTWISE_LIMIT = 1 << 16  # parameters up to this size get a variable an element; larger ones, one a row and a column


class Shifts(ShiftConstraints):
    """The shift interpreter of the primitives (see ``domain.Domain``)."""

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        *,
        complex: frozenset[str],
        single: frozenset[str],
        absorbing: bool = False,
        lenient: bool = False,
        answers: Sequence[Answer] = (),
        whole: Mapping[str, int] | None = None,
        shares: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(lenient)
        self.shapes = shapes
        self.absorbing = absorbing
        self.absorbed: list[Absorbed] = []
        self.answerable: dict[Answer, None] = {}  # what biases that are read in several places might answer
        self._answers = answers
        self._whole = whole or {}  # of these, only shifts of whole slices along one dimension are asked for
        self._shares = shares or {}  # where products in the program add up to one, and along which dimension
        self._complex = complex  # no shifts of these are followed: a sum of complex numbers is no real charge
        self.parameters: dict[str, list[np.ndarray]] = {}
        self._single = single  # a bias that is read once takes back whatever it meets there
        self._values: dict[str, Change] = {}
        self._serial = 0

    def constant(self, shape: Sequence[int]) -> Change:
        return Change(tuple(shape), wide_dims(shape), self._fresh())

    def _fresh(self) -> Hashable:
        self._serial += 1
        return Name("value", self._serial)

    def parameter(self, name: str) -> Change:
        """A variable an element; for large parameters, one for each slice that is shifted as a whole."""
        if name not in self._values:
            shape = self.shapes[name]
            wide = [d for d, n in enumerate(shape) if n > 1]
            widest = sorted(sorted(wide, key=lambda d: -shape[d])[:2])  # of stacked matrices the rows and columns
            supports = [tuple(d for d in range(len(shape)) if d != left_out) for left_out in widest]
            if math.prod(shape) <= ELEMENTWISE_LIMIT or len(wide) <= 1:
                supports = [tuple(range(len(shape)))]
            supports = [(self._whole[name],)] if name in self._whole else supports
            self.parameters[name], terms = [], []
            for support in () if name in self._complex else supports:
                sizes = [n if d in support else 1 for d, n in enumerate(shape)]
                ids = self.system.new(math.prod(sizes)).reshape(sizes)
                self.parameters[name].append(ids)
                terms.append(ChangeTerm(("constant",), ids[..., None]))
            terms += [self._taken_on(answer, shape) for answer in self._answers if answer.bias == name]
            self._values[name] = Change(shape, wide_dims(shape), Name("parameter", name), tuple(terms))
        return self._values[name]

    def unread(self, name: str, view: Take) -> None:
        """A change of entries that no output depends on is a translation, and found to be one."""

    def paired(self, x: Change, first: Sequence[int], second: Sequence[int]) -> None:
        """Nothing is shifted by a rotation."""

    def read(self) -> Iterator[np.ndarray]:
        """The variables that families are read off: of parameters, and of what biases answer."""
        for arrays in self.parameters.values():
            yield from arrays
        yield from (absorbed.ids for absorbed in self.absorbed)

    def coarse(self, name: str) -> str:
        """Why not every shift of a parameter is asked for; empty where each element has its own."""
        if name in self._complex:
            return "shifts of complex parameters are not looked for"
        if len(self.parameters[name]) > 1:
            return f"of more than {ELEMENTWISE_LIMIT:,} elements only shifts of whole rows and columns are looked for"
        return ""

    def moves(self, x: Change) -> bool:
        """Whether anything is left of the change after what is known by now."""
        return bool(x.terms) and bool(self._known(x.terms))

    def fix(self, *xs: Change) -> None:
        for x in xs:
            for group in by_function(self._known(x.terms)):
                self._vanish(group)

    def view(self, x: Change, view: View) -> Change:
        shape = tuple(view.output_shape(x.shape))
        varies = viewed_dims(x.varies, view, x.shape, shape)
        terms = viewed_terms(x, view, shape)
        told = x.shape[view.dim : view.dim + 1] if isinstance(view, Take) else ()  # of how many entries some are taken
        whole = (viewed_whole(dim, x, view, shape) for dim in (x.sums_to_one, x.sums_to_zero))
        return Change(shape, varies, Name("view", x.name, view, *told), terms, *whole)

    def cat(self, xs: Sequence[Change], dim: int) -> Change:
        shape = list(xs[0].shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        varies = frozenset().union(*(x.varies for x in xs)) | {dim}
        terms: list[ChangeTerm] = []
        start = 0
        for x in xs:
            terms += [placed_in(t, dim, start, x.shape[dim], shape[dim]) for t in x.terms]
            start += x.shape[dim]
        return Change(tuple(shape), varies, self._fresh(), tuple(terms))

    def add(self, x: Change, y: Change, scale: float = 1.0) -> Change:
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = aligned(x, shape), aligned(y, shape)
        if scale:
            x, y = self._absorb(x, y, 1 / scale), self._absorb(y, x, scale)
        other = y.terms if scale == 1 else tuple(replace(t, factor=t.factor * scale) for t in y.terms)
        name = Name("add", x.name, y.name, scale)
        return Change(shape, x.varies | y.varies, name, self._combined((*x.terms, *other)))

    def _absorb(self, x: Change, bias: Change, times: float) -> Change:
        """x without the terms that a shift of the bias can answer: images of a constant under linear maps in a row.

        ``times``: by how much more the bias has to change, as it may be added with a factor.
        """
        name, whole = parameter_behind(bias.name, self.shapes)
        if not name or name in self._complex or len(bias.varies) != 1 or not x.terms:
            return x
        answering = len(wide_dims(self.shapes[name])) == 1
        kept = []
        for t in x.terms:
            alone = name in self._single and whole and not t.pattern and t.varies == bias.varies
            steps = maps_of(t) if alone else ()
            step = mapped_constant(t)
            if steps:
                self.absorbed.append(Absorbed(name, steps, t.ids.reshape(-1), t.factor * times))
                continue
            kept.append(t)
            if answering and step is not None and t.varies == bias.varies:
                rows = rows_alike(t, bias.name)
                self.answerable[Answer(name, step, t.along[0][1], t.ids.shape[-1], rows)] = None
        return replace(x, terms=tuple(kept)) if self.absorbing else x

    def _taken_on(self, answer: Answer, shape: Shape) -> ChangeTerm:
        """The bias's own change by an image W a, or by some rows of it, the same wherever it is read."""
        ids = self.system.new(answer.count)
        self.absorbed.append(Absorbed(answer.bias, (answer.step,), ids, -1.0, answer.rows))
        (dim,) = wide_dims(shape)
        key = ("constant", answer.step, *([("only", answer.axis, answer.rows)] if answer.rows else []))
        return ChangeTerm(key, ids.reshape((1,) * len(shape) + (answer.count,)), ((dim, answer.axis),))

    def add_number(self, x: Change, number: float, broken_by: Breaking | None = None) -> Change:
        return replace(x, name=Name("add", x.name, number), sums_to_one=None, sums_to_zero=None)

    def scaled(self, x: Change, factor: float) -> Change:
        terms = tuple(replace(t, factor=t.factor * factor) for t in x.terms) if factor else ()
        return Change(x.shape, x.varies, Name("scaled", x.name, factor), terms, None, x.sums_to_zero)

    def mul(self, x: Change, y: Change) -> Change:
        """The product rule; each change is now a function of the other factor too."""
        x, y = (aligned(v, np.broadcast_shapes(x.shape, y.shape)) for v in (x, y))
        terms = self._known([times(t, y) for t in x.terms] + [times(t, x) for t in y.terms])
        return Change(x.shape, x.varies | y.varies, Name("mul", x.name, y.name), terms, self._shares.get(self.position))

    def power(self, x: Change, exponent: float) -> Change:
        return x if exponent == 1 else self.nonlinear(x)

    def restricted(self, x: Change, kept: np.ndarray) -> Change:
        """What changes is what matters: shifts of the other entries are shifts of nothing."""
        return replace(x, terms=tuple(restricted_term(t, kept) for t in x.terms))

    def homogeneous(self, x: Change) -> Change:
        return self.nonlinear(x)

    def nonlinear(self, *xs: Change) -> Change:
        self.fix(*xs)
        shape = np.broadcast_shapes(*(x.shape for x in xs))
        varies = frozenset().union(*(aligned(x, shape).varies for x in xs))
        return Change(shape, varies, self._fresh())

    def larger(self, x: Change, y: Change) -> Change:
        """max(x + u, y + u) = max(x, y) + u."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = aligned(x, shape), aligned(y, shape)
        self.fix(self.add(x, y, -1.0))
        return Change(shape, x.varies | y.varies, self._fresh(), x.terms)

    def noise(self, x: Change) -> Change:
        return self.mul(x, self.constant(x.shape))

    def contract(self, x: Change, y: Change, how: Contraction) -> Change:
        """The product rule; along summed indices the coefficients become numbers of functions."""
        shape = how.output_shape(x.shape, y.shape)
        name = Name("contract", x.name, y.name, how)
        left = self._told_apart(x, zero_along(how.x, y, how.y, how), one_along(how.x, y, how.y, how))
        right = self._told_apart(y, zero_along(how.y, x, how.x, how), one_along(how.y, x, how.x, how))
        terms = [contracted_term(t, how.x, x.shape, y, how.y, how) for t in left]
        terms += [contracted_term(t, how.y, y.shape, x, how.x, how) for t in right]
        letters = letters_of(x.varies, how.x) | letters_of(y.varies, how.y)
        letters |= {w.out for w in how.windows if w.x in letters or not w.keeps_constants}
        varies = frozenset(k for k, letter in enumerate(how.out) if letter in letters) & wide_dims(shape)
        return Change(shape, varies, name, self._known(terms))

    def _told_apart(self, x: Change, dim: int | None, whole: int | None) -> Sequence[ChangeTerm]:
        """Terms less what is the same along ``dim``, over which the other factor adds up to zero.

        Along ``whole`` it adds up to one: what is the same there stays as it is, and apart from the rest.
        """
        if whole is not None:
            parts = [[t] if whole in t.varies else based(t, whole, self.system, self.cause) for t in x.terms]
            return [t for part in parts for t in part]
        if dim is None:
            return x.terms
        moving = [t for t in x.terms if dim in t.varies or t.ids.shape[dim] > 1]
        return [t if dim in t.varies else based(t, dim, self.system, self.cause)[1] for t in moving]

    def reduce(self, x: Change, dims: Sequence[int], keepdim: bool, mean: bool) -> Change:
        bound = frozenset(d % len(x.shape) for d in dims) if x.shape else frozenset()
        count = math.prod(x.shape[d] for d in bound)
        terms = []
        for t in x.terms:
            total = self._reduced(t, bound, x.shape, count)
            terms.append(replace(total, factor=total.factor / count if mean else total.factor))
        name = Name("reduced", x.name, tuple(sorted(bound)), keepdim, mean)
        return without_dims(Change(x.shape, x.varies - bound, name, tuple(terms)), bound, keepdim)

    def _reduced(self, t: ChangeTerm, bound: frozenset[int], shape: Shape, count: int) -> ChangeTerm:
        """The sum of one term over ``bound``."""
        moving = bound & (t.varies | t.pattern)
        if t.varies & bound:
            sizes = tuple((d, shape[d]) for d in sorted(moving))
            step = ("reduced", sizes, tuple(sorted(t.pattern & bound)))
            total = t.then(step, t.absorbed(moving, shape), t.varies - bound)
            return replace(total, factor=t.factor * math.prod(shape[d] for d in bound - moving))
        if t.pattern & bound:
            return self._summed(t, bound, shape)
        return replace(t, factor=t.factor * count)

    def extremum(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        """max(x + u) = max(x) + u for what is constant over the maximised dimensions."""
        bound = frozenset(d % len(x.shape) for d in dims)
        self._kill(x.terms, bound)
        kept = tuple(replace(t, ids=first_entries(t.ids, bound)) for t in x.terms if not t.varies & bound)
        return without_dims(Change(x.shape, x.varies - bound, self._fresh(), kept), bound, keepdim)

    def pool(
        self, x: Change, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool, how: Hashable
    ) -> Change:
        bound = frozenset(dims)
        if not linear:
            self._kill(x.terms, bound)
            terms = tuple(replace(t, ids=first_entries(t.ids, bound)) for t in x.terms if not t.varies & bound)
            return Change(tuple(shape), x.varies, self._fresh(), terms)
        moved = []
        for t in x.terms:
            if keeps_constants and not ((t.varies | t.pattern) & bound):
                moved.append(t)
            else:
                step = ("pooled", how, tuple(sorted(bound)), x.shape, tuple(shape), tuple(sorted(t.pattern & bound)))
                moved.append(t.then(step, t.absorbed(bound, x.shape), t.varies | bound))
        varies = x.varies if keeps_constants else x.varies | bound
        return Change(tuple(shape), varies, self._fresh(), self._known(moved))

    def normalise(self, x: Change, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> Change:
        bound = frozenset(d % len(x.shape) for d in dims)
        if center:
            self._kill(x.terms, bound)
        else:
            self.fix(x)
        wide = bound & wide_dims(x.shape)
        return Change(x.shape, x.varies, self._fresh(), (), None, min(wide) if center and len(wide) == 1 else None)

    def softmax(self, x: Change, dim: int, log: bool) -> Change:
        self._kill(x.terms, frozenset({dim}))
        return Change(x.shape, x.varies, self._fresh(), sums_to_one=None if log else dim)

    def gather(self, x: Change, dim: int, index_shape: Sequence[int], index: Any) -> Change:
        shape = (*x.shape[:dim], *index_shape, *x.shape[dim + 1 :])
        count = len(index_shape)
        new = frozenset(range(dim, dim + count))
        after = {d: d if d < dim else d + count - 1 for d in range(len(x.shape)) if d != dim}
        terms = []
        for t in [part for term in x.terms for part in based(term, dim, self.system, self.cause)]:
            touched = dim in t.varies or t.ids.shape[dim] > 1
            ids = t.absorbed([dim], x.shape)
            ids = ids.reshape(*ids.shape[:dim], *((1,) * count), *ids.shape[dim + 1 :])
            if touched:
                step = ("gathered", dim, index, t.ids.shape[dim] > 1)
                terms.append(t.then(step, ids, frozenset(after[d] for d in t.varies if d != dim) | new))
            else:
                terms.append(t.moved(ids, after))
        varies = frozenset(after[d] for d in x.varies if d != dim) | new
        return Change(shape, varies, Name("gather", x.name, dim, index), self._known(terms))

    def select(self, x: Change, y: Change, shape: Sequence[int]) -> Change:
        """A mask times one, plus its complement times the other."""
        mask = self.constant(shape)
        return self.add(self.mul(x, mask), self.mul(y, replace(mask, name=Name("complement", mask.name))))

    def masked(self, x: Change, number: float, shape: Sequence[int]) -> Change:
        """Some entries replaced by a number; what softmax reads as minus infinity shifts with anything."""
        x = aligned(x, tuple(shape))
        if number <= -1e4:
            return replace(x, varies=wide_dims(shape), name=self._fresh(), sums_to_one=None, sums_to_zero=None)
        return self.mul(x, self.constant(shape))

    def zero_padded(self, x: Change, dim: int, before: int, after: int) -> Change:
        n = x.shape[dim]
        total = n + before + after
        terms = []
        for t in x.terms:
            constant = dim not in t.varies and t.ids.shape[dim] == 1
            ids = np.repeat(t.ids, n, axis=dim) if constant else t.ids
            terms.append(placed_in(replace(t, ids=ids), dim, before, n, total))
        shape = tuple(total if d == dim else size for d, size in enumerate(x.shape))
        return Change(shape, x.varies | {dim}, self._fresh(), tuple(terms))

    def resized(self, x: Change, shape: Sequence[int]) -> Change:
        """The same change for a tensor of another size along dimensions where only functions vary."""
        wide = wide_dims(shape)
        return replace(x, shape=tuple(shape), varies=x.varies & wide, sums_to_one=None, sums_to_zero=None)

    def deviation(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        """The standard deviation over ``dims``: blind to constants along them."""
        bound = frozenset(d % len(x.shape) for d in dims)
        self._kill(x.terms, bound)
        return without_dims(Change(x.shape, x.varies - bound, self._fresh()), bound, keepdim)

    def positions(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        return self.deviation(x, dims, keepdim)  # where the extremum stands: blind to constants too

    def spread_along(self, x: Change, dim: int, apart: Sequence[int] = ()) -> Change:
        """Entries along ``dim`` in places that only the data know, others for each entry along ``apart``."""
        moved = {dim, *apart}
        terms = []
        for t in [part for term in x.terms for part in based(term, dim, self.system, self.cause)]:
            touched = dim in t.varies or t.ids.shape[dim] > 1
            step = ("spread", dim, self._fresh())
            terms.append(t.then(step, t.absorbed(moved, x.shape), t.varies | moved) if touched else t)
        return Change(x.shape, x.varies | moved, self._fresh(), tuple(terms))

    def placed(
        self, x: Change | None, source: Change, dim: int, shape: Sequence[int], apart: Sequence[int] = ()
    ) -> Change:
        """``source`` put into, or added to, places of x (None: zeros) along ``dim``, others along ``apart``."""
        told = {dim, *apart}
        spot = self.constant(tuple(source.shape[d] if d in told else 1 for d in range(len(source.shape))))
        moved = self.mul(source, spot)
        moved = replace(moved, shape=tuple(shape), varies=moved.varies | {dim})
        terms = tuple(t.then(("put", dim, shape[dim]), t.ids, t.varies | {dim}) for t in moved.terms)
        before = x.terms if x is not None else ()
        if x is not None:
            before = self.mul(x, self.constant([n if d in told else 1 for d, n in enumerate(shape)])).terms
        return Change(tuple(shape), moved.varies | (x.varies if x else frozenset()), self._fresh(), (*before, *terms))
