"""Shifts: how every tensor changes, to first order, when constants are added to parameters.

A change is a sum of terms u_k·φ_k: unknown coefficients u_k times functions φ_k of the data and the other parameters. Of a function
only this is kept: an identity (two terms with the same identity may cancel) and the axes along which it is constant. Batch
norm, layer norm and softmax kill what is constant along their axes; nonlinear operations admit no change at all. Both
are linear constraints on the coefficients, and the translations are their null space.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralmechanics.symmetry.constraints import ConstraintSystem
from neuralmechanics.symmetry.domain import Contraction
from neuralmechanics.symmetry.family import Breaking
from neuralmechanics.symmetry.views import Expand, Permute, Reshape, Take, View, dimension_groups, squeezed

__all__ = ["Change", "ChangeTerm", "Shifts"]

Shape = tuple[int, ...]
Key = tuple[Hashable, ...]
ELEMENTWISE_LIMIT = 1 << 16  # parameters up to this size get a variable an element; larger ones, one a row and a column


@dataclass(frozen=True)
class Mapped:
    """The step of a function's identity that a sum of products with another tensor is.

    ``absorbed``: the dimensions of the changed tensor whose coefficients became numbers of functions.
    """

    other: Hashable
    how: Contraction
    letters: str
    absorbed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Absorbed:
    """A change that the bias ``absorber`` answers: -factor·Σ_k u[ids[k]]·(column k of the linear map)."""

    absorber: str
    step: Mapped
    ids: np.ndarray
    factor: float


@dataclass(frozen=True, eq=False)
class ChangeTerm:
    """factor·Σ_k u[ids[…, k]]·φ_k, with φ_k varying along ``varies`` (where ``ids`` has one entry) and constant elsewhere.

    ``ids`` is compressed over the tensor's dimensions, with one more at the end that numbers the functions of ``key``.
    """

    key: Key
    ids: np.ndarray
    varies: frozenset[int] = frozenset()
    factor: float = 1.0

    def pattern(self) -> frozenset[int]:
        """Dimensions along which the coefficients differ."""
        return frozenset(d for d, n in enumerate(self.ids.shape[:-1]) if n > 1)

    def absorbed(self, dims: Iterable[int], sizes: Sequence[int]) -> np.ndarray:
        """``ids`` with the coefficients' dependence on ``dims`` moved into the functions' number."""
        moved = sorted(d for d in set(dims) if self.ids.shape[d] > 1)
        rest = [d for d in range(self.ids.ndim - 1) if d not in moved]
        shape = [1 if d in moved else self.ids.shape[d] for d in range(self.ids.ndim - 1)]
        order = [*rest, *moved, self.ids.ndim - 1]
        count = math.prod(self.ids.shape[d] for d in moved) * self.ids.shape[-1]
        return self.ids.transpose(order).reshape([*shape_of(self.ids, rest), count]).reshape([*shape, count])


def shape_of(array: np.ndarray, dims: Sequence[int]) -> list[int]:
    return [array.shape[d] for d in dims]


@dataclass(frozen=True, eq=False)
class Change:
    """The change of a tensor, the dimensions along which the tensor itself differs, and a name for its value."""

    shape: Shape
    varies: frozenset[int]
    name: Hashable
    terms: tuple[ChangeTerm, ...] = ()
    sums_to_one: int | None = None


class Shifts:
    """The shift interpreter of the primitives (see ``domain.Domain``)."""

    def __init__(self, shapes: Mapping[str, Shape], absorbing: bool = False) -> None:
        self.system = ConstraintSystem()
        self.shapes = shapes
        self.absorbing = absorbing
        self.absorbed: list[Absorbed] = []
        self.parameters: dict[str, list[np.ndarray]] = {}
        self.cause = -1
        self._values: dict[str, Change] = {}
        self._serial = 0

    # --- leaves -------------------------------------------------------------------------------------------------

    def constant(self, shape: Sequence[int]) -> Change:
        return Change(tuple(shape), _wide(shape), self._fresh())

    def _fresh(self) -> Hashable:
        self._serial += 1
        return ("value", self._serial)

    def parameter(self, name: str) -> Change:
        """A variable an element; for large parameters, one for each slice that is shifted as a whole."""
        if name not in self._values:
            shape = self.shapes[name]
            wide = [d for d, n in enumerate(shape) if n > 1]
            if math.prod(shape) <= ELEMENTWISE_LIMIT or len(wide) <= 1:
                supports = [tuple(range(len(shape)))]
            else:
                supports = [tuple(d for d in range(len(shape)) if d != left_out) for left_out in wide[:2]]
            self.parameters[name] = []
            terms = []
            for support in supports:
                sizes = [n if d in support else 1 for d, n in enumerate(shape)]
                ids = self.system.new(math.prod(sizes)).reshape(sizes)
                self.parameters[name].append(ids)
                terms.append(ChangeTerm(("constant",), ids[..., None]))
            self._values[name] = Change(shape, _wide(shape), ("parameter", name), tuple(terms))
        return self._values[name]

    # --- constraints --------------------------------------------------------------------------------------------

    def fix(self, *xs: Change) -> None:
        for x in xs:
            for group in _by_key(self._known(x.terms)):
                self._vanish(group)

    def _vanish(self, terms: Sequence[ChangeTerm]) -> None:
        if len(terms) == 1:
            self.system.add([1], terms[0].ids.reshape(-1, 1), self.cause)
            return
        sizes = np.broadcast_shapes(*(t.ids.shape for t in terms))
        tables = [np.broadcast_to(t.ids, sizes).reshape(-1) for t in terms]
        self.system.add([t.factor for t in terms], np.unique(np.stack(tables, axis=1), axis=0), self.cause)

    def _known(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms by what is known of their coefficients: constant dimensions dropped, zeros left out."""
        out = []
        for t in terms:
            ids = squeezed(self.system.resolve(t.ids), t.ids.ndim - 1)
            if t.factor and ids.any():
                out.append(replace(t, ids=ids))
        return tuple(out)

    def _kill(self, terms: Sequence[ChangeTerm], dims: frozenset[int]) -> None:
        """Demands that the terms' sum be constant along ``dims``."""
        for group in _by_key(self._known(terms)):
            if any(t.varies & dims for t in group):
                self._vanish(group)
                continue
            if len(group) == 1:
                ids = group[0].ids
                self.system.add([1, -1], _pairs(ids, _first(ids, dims)), self.cause)
                continue
            sizes = list(np.broadcast_shapes(*(t.ids.shape for t in group)))
            first = [1 if d in dims else n for d, n in enumerate(sizes)]
            if first == sizes:
                continue
            tables, factors = [], []
            for t in group:
                full = np.broadcast_to(t.ids, sizes)
                index = tuple(slice(0, 1) if d in dims else slice(None) for d in range(len(sizes)))
                tables += [full.reshape(-1), np.broadcast_to(full[index], sizes).reshape(-1)]
                factors += [t.factor, -t.factor]
            self.system.add(factors, np.unique(np.stack(tables, axis=1), axis=0), self.cause)

    # --- primitives ---------------------------------------------------------------------------------------------

    def view(self, x: Change, view: View) -> Change:
        shape = tuple(view.output_shape(x.shape))
        varies = _viewed_dims(x.varies, view, x.shape, shape)
        terms = tuple(_viewed(t, view, x.shape, shape) for t in x.terms)
        return Change(shape, varies, ("view", x.name, view), terms)

    def cat(self, xs: Sequence[Change], dim: int) -> Change:
        shape = list(xs[0].shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        varies = frozenset().union(*(x.varies for x in xs)) | {dim}
        terms: list[ChangeTerm] = []
        start = 0
        for x in xs:
            for t in x.terms:
                terms.append(_placed(t, dim, start, x.shape[dim], shape[dim]))
            start += x.shape[dim]
        return Change(tuple(shape), varies, self._fresh(), tuple(terms))

    def add(self, x: Change, y: Change, scale: float = 1.0) -> Change:
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = _aligned(x, shape), _aligned(y, shape)
        if self.absorbing and scale == 1:
            x = self._absorb(x, y)
        terms = (*x.terms, *(replace(t, factor=t.factor * scale) for t in y.terms))
        return Change(shape, x.varies | y.varies, ("add", x.name, y.name, scale), self._combined(terms))

    def _absorb(self, x: Change, bias: Change) -> Change:
        """x without the terms that a shift of the bias can answer: a linear map's image of a constant."""
        name = _parameter_behind(bias.name)
        if name is None or len(bias.varies) != 1:
            return x
        kept = []
        for t in x.terms:
            step = t.key[1:]
            if (
                t.key[0] == "constant"
                and len(step) == 1
                and isinstance(step[0], Mapped)
                and t.varies == bias.varies
                and not t.pattern()
            ):
                self.absorbed.append(Absorbed(name, step[0], t.ids.reshape(-1), t.factor))
            else:
                kept.append(t)
        return replace(x, terms=tuple(kept))

    def _combined(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms of one function as one term, with new variables for the sums of their coefficients."""
        out = []
        for group in _by_key(self._known(terms)):
            if len(group) == 1:
                out.append(group[0])
                continue
            sizes = np.broadcast_shapes(*(t.ids.shape for t in group))
            table = np.stack([np.broadcast_to(t.ids, sizes).reshape(-1) for t in group], axis=1)
            rows, inverse = np.unique(table, axis=0, return_inverse=True)
            sums = self.system.new(len(rows))
            self.system.add([*(t.factor for t in group), -1.0], np.hstack([rows, sums[:, None]]), self.cause)
            varies = frozenset().union(*(t.varies for t in group))
            out.append(ChangeTerm(group[0].key, sums[inverse.reshape(-1)].reshape(sizes), varies))
        return tuple(out)

    def add_number(self, x: Change, number: float, broken_by: Breaking | None = None) -> Change:
        return replace(x, name=("add", x.name, number), sums_to_one=None)

    def scaled(self, x: Change, factor: float) -> Change:
        terms = tuple(replace(t, factor=t.factor * factor) for t in x.terms) if factor else ()
        return Change(x.shape, x.varies, ("scaled", x.name, factor), terms)

    def mul(self, x: Change, y: Change) -> Change:
        """The product rule; each change is now a function of the other factor too."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = _aligned(x, shape), _aligned(y, shape)
        name = ("mul", x.name, y.name)
        terms = [_times(t, y) for t in x.terms] + [_times(t, x) for t in y.terms]
        return Change(shape, x.varies | y.varies, name, self._known(terms))

    def power(self, x: Change, exponent: float) -> Change:
        if exponent == 1:
            return x
        return self.nonlinear(x)

    def homogeneous(self, x: Change) -> Change:
        return self.nonlinear(x)

    def nonlinear(self, *xs: Change) -> Change:
        self.fix(*xs)
        shape = np.broadcast_shapes(*(x.shape for x in xs))
        varies = frozenset().union(*(_aligned(x, shape).varies for x in xs))
        return Change(shape, varies, self._fresh())

    def larger(self, x: Change, y: Change) -> Change:
        """max(x + u, y + u) = max(x, y) + u."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = _aligned(x, shape), _aligned(y, shape)
        self.fix(self.add(x, y, -1.0))
        return Change(shape, x.varies | y.varies, self._fresh(), x.terms)

    def noise(self, x: Change) -> Change:
        return self.mul(x, self.constant(x.shape))

    def contract(self, x: Change, y: Change, how: Contraction) -> Change:
        """The product rule; along summed indices the coefficients become numbers of functions."""
        sizes = dict(zip(how.x, x.shape, strict=True)) | dict(zip(how.y, y.shape, strict=True))
        shape = tuple(sizes.get(letter, 0) for letter in how.out)
        name = ("contract", x.name, y.name, how)
        terms = [_contracted(t, how.x, y, how.y, how) for t in x.terms]
        terms += [_contracted(t, how.y, x, how.x, how) for t in y.terms]
        letters = _letters(x.varies, how.x) | _letters(y.varies, how.y)
        letters |= {w.out for w in how.windows if w.x in letters or not w.keeps_constants}
        varies = frozenset(k for k, letter in enumerate(how.out) if letter in letters)
        return Change(shape, varies, name, self._known(terms))

    def reduce(self, x: Change, dims: Sequence[int], keepdim: bool, mean: bool) -> Change:
        bound = frozenset(d % len(x.shape) for d in dims) if x.shape else frozenset()
        count = math.prod(x.shape[d] for d in bound)
        terms = []
        for t in x.terms:
            total = self._reduced(t, bound, x.shape, count)
            terms.append(replace(total, factor=total.factor / count if mean else total.factor))
        reduced = Change(x.shape, x.varies - bound, ("reduced", x.name, tuple(sorted(bound)), mean), tuple(terms))
        return _dropped(reduced, bound, keepdim)

    def _reduced(self, t: ChangeTerm, bound: frozenset[int], shape: Shape, count: int) -> ChangeTerm:
        """The sum of one term over ``bound``."""
        if t.varies & bound:
            key = (*t.key, "reduced", tuple(sorted(bound)), tuple(sorted(t.pattern() & bound)))
            return ChangeTerm(key, t.absorbed(bound, shape), t.varies - bound, t.factor)
        if t.pattern() & bound:
            return self._summed(t, bound, shape)
        return replace(t, factor=t.factor * count)

    def _summed(self, t: ChangeTerm, bound: frozenset[int], shape: Shape) -> ChangeTerm:
        """New variables for the sums of the coefficients along ``bound``."""
        sizes = [shape[d] if d in bound else n for d, n in enumerate(t.ids.shape[:-1])] + [t.ids.shape[-1]]
        full = np.broadcast_to(t.ids, sizes)
        rest = [d for d in range(full.ndim) if d not in bound]
        table = full.transpose([*rest, *sorted(bound)]).reshape(math.prod(full.shape[d] for d in rest), -1)
        sums = self.system.new(len(table))
        self.system.add([1.0] * table.shape[1] + [-1.0], np.hstack([table, sums[:, None]]), self.cause)
        return replace(t, ids=sums.reshape([1 if d in bound else n for d, n in enumerate(sizes)]))

    def extremum(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        """max(x + u) = max(x) + u for what is constant over the maximised dimensions."""
        bound = frozenset(d % len(x.shape) for d in dims)
        self._kill_unless_constant(x, bound)
        kept = tuple(replace(t, ids=_first(t.ids, bound)) for t in x.terms if not t.varies & bound)
        return _dropped(Change(x.shape, x.varies - bound, self._fresh(), kept), bound, keepdim)

    def _kill_unless_constant(self, x: Change, bound: frozenset[int]) -> None:
        self._kill(x.terms, bound)

    def pool(self, x: Change, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool) -> Change:
        bound = frozenset(dims)
        if not linear:
            self._kill_unless_constant(x, bound)
            terms = tuple(replace(t, ids=_first(t.ids, bound)) for t in x.terms if not t.varies & bound)
            return Change(tuple(shape), x.varies, self._fresh(), terms)
        moved = []
        for t in x.terms:
            if keeps_constants and not ((t.varies | t.pattern()) & bound):
                moved.append(t)
            else:
                key = (*t.key, "pooled", tuple(sorted(bound)), tuple(shape), tuple(sorted(t.pattern() & bound)))
                moved.append(ChangeTerm(key, t.absorbed(bound, x.shape), t.varies | bound, t.factor))
        varies = x.varies if keeps_constants else x.varies | bound
        return Change(tuple(shape), varies, self._fresh(), self._known(moved))

    def normalise(self, x: Change, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> Change:
        bound = frozenset(d % len(x.shape) for d in dims)
        if center:
            self._kill(x.terms, bound)
        else:
            self.fix(x)
        return Change(x.shape, x.varies, self._fresh())

    def softmax(self, x: Change, dim: int) -> Change:
        self._kill(x.terms, frozenset({dim}))
        return Change(x.shape, x.varies, self._fresh(), sums_to_one=dim)

    def gather(self, x: Change, dim: int, index_shape: Sequence[int], index: Any) -> Change:
        shape = (*x.shape[:dim], *index_shape, *x.shape[dim + 1 :])
        count = len(index_shape)
        new = frozenset(range(dim, dim + count))
        after = {d: d if d < dim else d + count - 1 for d in range(len(x.shape)) if d != dim}
        terms = []
        for t in [part for t in x.terms for part in self._based(t, dim)]:
            touched = dim in t.varies or t.ids.shape[dim] > 1
            ids = t.absorbed([dim], x.shape)
            ids = ids.reshape(*ids.shape[:dim], *((1,) * count), *ids.shape[dim + 1 :])
            varies = frozenset(after[d] for d in t.varies if d != dim) | (new if touched else frozenset())
            key = (*t.key, "gathered", index, t.ids.shape[dim] > 1) if touched else t.key
            terms.append(ChangeTerm(key, ids, varies, t.factor))
        varies = frozenset(after[d] for d in x.varies if d != dim) | new
        return Change(shape, varies, ("gather", x.name, dim, index), self._known(terms))

    def _based(self, t: ChangeTerm, dim: int) -> list[ChangeTerm]:
        """Coefficients that differ along ``dim`` as those of the first entry plus differences.

        What is the same for every entry is a constant function whatever is picked, and may cancel another constant.
        """
        if t.ids.shape[dim] == 1:
            return [t]
        base = _first(t.ids, frozenset({dim}))
        rest = t.ids.take(np.arange(1, t.ids.shape[dim]), axis=dim)
        differences = self.system.new(rest.size).reshape(rest.shape)
        table = np.stack([rest.reshape(-1), np.broadcast_to(base, rest.shape).reshape(-1), differences.reshape(-1)], 1)
        self.system.add([1.0, -1.0, -1.0], table, self.cause)
        return [replace(t, ids=base), replace(t, ids=np.concatenate([np.zeros_like(base), differences], axis=dim))]

    def select(self, x: Change, y: Change, shape: Sequence[int]) -> Change:
        """A mask times one, plus its complement times the other."""
        mask = self.constant(shape)
        other = replace(mask, name=("complement", mask.name))
        return self.add(self.mul(x, mask), self.mul(y, other))

    def masked(self, x: Change, number: float, shape: Sequence[int]) -> Change:
        """Some entries replaced by a number; what softmax reads as minus infinity shifts with anything."""
        x = _aligned(x, tuple(shape))
        if number <= -1e4:
            return replace(x, varies=_wide(shape), name=self._fresh(), sums_to_one=None)
        return self.mul(x, self.constant(shape))

    def zero_padded(self, x: Change, dim: int, before: int, after: int, fill: float | None) -> Change:
        n = x.shape[dim]
        total = n + before + after
        terms = []
        for t in x.terms:
            if dim not in t.varies and t.ids.shape[dim] == 1:
                sizes = [n if d == dim else size for d, size in enumerate(t.ids.shape)]
                t = replace(t, ids=np.broadcast_to(t.ids, sizes))
            terms.append(_placed(t, dim, before, n, total))
        shape = tuple(total if d == dim else size for d, size in enumerate(x.shape))
        return Change(shape, x.varies | {dim}, self._fresh(), tuple(terms))

    def resized(self, x: Change, shape: Sequence[int]) -> Change:
        """The same change for a tensor of another size along dimensions where only functions vary."""
        wide = _wide(shape)
        return replace(x, shape=tuple(shape), varies=x.varies & wide)

    def deviation(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        """The standard deviation over ``dims``: blind to constants along them."""
        bound = frozenset(d % len(x.shape) for d in dims)
        self._kill(x.terms, bound)
        return _dropped(Change(x.shape, x.varies - bound, self._fresh()), bound, keepdim)

    def positions(self, x: Change, dims: Sequence[int], keepdim: bool) -> Change:
        """Where the extremum over ``dims`` stands: blind to constants along them."""
        return self.deviation(x, dims, keepdim)

    def spread_along(self, x: Change, dim: int) -> Change:
        """Entries along ``dim`` in places that only the data know."""
        terms = []
        for t in x.terms:
            if dim in t.varies or t.ids.shape[dim] > 1:
                key = (*t.key, "spread", dim, self._fresh())
                t = ChangeTerm(key, t.absorbed([dim], x.shape), t.varies | {dim}, t.factor)
            terms.append(t)
        return Change(x.shape, x.varies | {dim}, self._fresh(), tuple(terms))

    def placed(self, x: Change | None, source: Change, dim: int, shape: Sequence[int]) -> Change:
        """``source`` put into, or added to, places of x (None: zeros) along ``dim``."""
        spot = self.constant(tuple(source.shape[d] if d == dim else 1 for d in range(len(source.shape))))
        moved = self.mul(source, spot)
        moved = replace(moved, shape=tuple(shape), varies=moved.varies | {dim})
        terms = tuple(replace(t, varies=t.varies | {dim}) for t in moved.terms)
        before = x.terms if x is not None else ()
        if x is not None:
            before = self.mul(x, self.constant([n if d == dim else 1 for d, n in enumerate(shape)])).terms
        return Change(tuple(shape), moved.varies | (x.varies if x else frozenset()), self._fresh(), (*before, *terms))


def _wide(shape: Sequence[int]) -> frozenset[int]:
    return frozenset(d for d, n in enumerate(shape) if n > 1)


def _letters(dims: frozenset[int], letters: str) -> set[str]:
    return {letters[d] for d in dims}


def _by_key(terms: Iterable[ChangeTerm]) -> list[list[ChangeTerm]]:
    groups: dict[tuple[Hashable, ...], list[ChangeTerm]] = {}
    for t in terms:
        groups.setdefault((t.key, t.ids.shape[-1]), []).append(t)
    return list(groups.values())


def _pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rows (left, right) of two arrays that broadcast against each other."""
    return np.stack([left.reshape(-1), np.broadcast_to(right, left.shape).reshape(-1)], axis=1)


def _first(ids: np.ndarray, dims: frozenset[int]) -> np.ndarray:
    return ids[tuple(slice(0, 1) if d in dims else slice(None) for d in range(ids.ndim))]


def _aligned(x: Change, shape: Shape) -> Change:
    if x.shape == shape:
        return x
    front = len(shape) - len(x.shape)
    terms = tuple(
        replace(t, ids=t.ids.reshape((1,) * front + t.ids.shape), varies=frozenset(d + front for d in t.varies))
        for t in x.terms
    )
    return Change(shape, frozenset(d + front for d in x.varies), ("expand", x.name, shape), terms)


def _times(t: ChangeTerm, other: Change) -> ChangeTerm:
    """The term multiplied by a tensor that is known to be constant along some axes."""
    moved = tuple(sorted(other.varies & t.pattern()))
    ids = t.absorbed(moved, other.shape)
    return ChangeTerm((*t.key, "times", other.name, moved), ids, t.varies | other.varies, t.factor)


def _contracted(t: ChangeTerm, letters: str, other: Change, other_letters: str, how: Contraction) -> ChangeTerm:
    """The term after a sum of products with ``other``."""
    outer = _letters(other.varies, other_letters)
    if other.sums_to_one is not None:
        letter = other_letters[other.sums_to_one]
        if letter in letters and letter not in how.out and letters.index(letter) not in t.varies | t.pattern():
            return _averaged(t, letters, how)
    windows = {w.x: w for w in how.windows} | {w.kernel: w for w in how.windows}
    moved = {letter for letter in letters if letter not in how.out or letter in outer or letter in windows}
    absorbed = tuple(d for d, letter in enumerate(letters) if letter in moved and t.ids.shape[d] > 1)
    ids = t.absorbed(absorbed, ())
    varying = _letters(t.varies, letters) | outer
    touched = varying | _letters(t.pattern(), letters)
    varying |= {w.out for w in how.windows if w.x in touched or not w.keeps_constants}
    kept = {letter: ids.shape[d] for d, letter in enumerate(letters) if letter not in moved}
    shape = [kept.get(letter, 1) for letter in how.out]
    order = [letters.index(letter) for letter in how.out if letter in kept]
    rest = [d for d in range(len(letters)) if d not in order]
    ids = ids.transpose([*order, *rest, len(letters)]).reshape([*shape, ids.shape[-1]])
    varies = frozenset(k for k, letter in enumerate(how.out) if letter in varying)
    return ChangeTerm((*t.key, Mapped(other.name, how, letters, absorbed)), ids, varies, t.factor)


def _averaged(t: ChangeTerm, letters: str, how: Contraction) -> ChangeTerm:
    """The term after a mean along an axis where it is constant, with any weights that sum to one: as it was."""
    order = [letters.index(letter) for letter in how.out if letter in letters]
    rest = [d for d in range(len(letters)) if d not in order]
    shape = [t.ids.shape[letters.index(letter)] if letter in letters else 1 for letter in how.out]
    ids = t.ids.transpose([*order, *rest, len(letters)]).reshape([*shape, t.ids.shape[-1]])
    varies = frozenset(k for k, letter in enumerate(how.out) if letter in letters and letters.index(letter) in t.varies)
    return ChangeTerm(t.key, ids, varies, t.factor)


def _parameter_behind(name: Hashable) -> str | None:
    """The parameter that a value is, up to reshapes and broadcasts."""
    while isinstance(name, tuple) and name and name[0] in ("view", "expand"):
        if name[0] == "view" and not isinstance(name[2], (Reshape, Expand)):
            return None
        name = name[1]
    return name[1] if isinstance(name, tuple) and name[:1] == ("parameter",) else None


def _dropped(x: Change, bound: frozenset[int], keepdim: bool) -> Change:
    if keepdim:
        return replace(x, shape=tuple(1 if d in bound else n for d, n in enumerate(x.shape)))
    kept = [d for d in range(len(x.shape)) if d not in bound]
    place = {d: k for k, d in enumerate(kept)}
    terms = tuple(
        replace(
            t,
            ids=t.ids.reshape([*(t.ids.shape[d] for d in kept), t.ids.shape[-1]]),
            varies=frozenset(place[d] for d in t.varies),
        )
        for t in x.terms
    )
    return replace(x, shape=tuple(x.shape[d] for d in kept), varies=frozenset(place[d] for d in x.varies), terms=terms)


def _placed(t: ChangeTerm, dim: int, start: int, length: int, total: int) -> ChangeTerm:
    """The term as a part of a concatenation: zero coefficients on the other parts."""
    if dim in t.varies:
        return ChangeTerm((*t.key, "placed", dim, start, total), t.ids, t.varies, t.factor)
    sizes = list(t.ids.shape)
    sizes[dim] = total
    ids = np.zeros(sizes, np.int64)
    index = [slice(None)] * len(sizes)
    index[dim] = slice(start, start + length)
    ids[tuple(index)] = t.ids
    return replace(t, ids=ids)


def _viewed_dims(dims: frozenset[int], view: View, shape: Shape, out: Shape) -> frozenset[int]:
    if isinstance(view, Permute):
        return frozenset(k for k, d in enumerate(view.order) if d in dims)
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        return frozenset(d + front for d in dims)
    if isinstance(view, Take):
        return dims if len(view.positions) > 1 else dims - {view.dim}
    touched = set()
    for inside, outside in dimension_groups(shape, out):
        if dims & set(inside):
            touched |= {d for d in outside if out[d] > 1}
    return frozenset(touched)


def _viewed(t: ChangeTerm, view: View, shape: Shape, out: Shape) -> ChangeTerm:
    if isinstance(view, Permute):
        ids = t.ids.transpose([*view.order, t.ids.ndim - 1])
        return replace(t, ids=ids, varies=_viewed_dims(t.varies, view, shape, out))
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        return replace(
            t, ids=t.ids.reshape((1,) * front + t.ids.shape), varies=_viewed_dims(t.varies, view, shape, out)
        )
    if isinstance(view, Take):
        if view.dim in t.varies:
            varies = _viewed_dims(t.varies, view, shape, out)
            return replace(t, key=(*t.key, "take", view.dim, view.positions), varies=varies)
        if t.ids.shape[view.dim] == 1:
            return t
        return replace(t, ids=t.ids.take(np.asarray(view.positions, dtype=np.int64), axis=view.dim))
    ids = t.ids
    key = t.key
    for inside, outside in dimension_groups(shape, out):
        if t.varies & set(inside) and (
            len([d for d in inside if shape[d] > 1]) > 1 or len([d for d in outside if out[d] > 1]) > 1
        ):
            ids = replace(t, ids=ids).absorbed(inside, shape)
            key = (*key, "reshape", shape, out, tuple(sorted(t.pattern() & set(inside))))
    ids = np.moveaxis(_reshaped(np.moveaxis(ids, -1, 0), shape, out), 0, -1)
    return ChangeTerm(key, ids, _viewed_dims(t.varies, view, shape, out), t.factor)


def _reshaped(array: np.ndarray, shape: Shape, out: Shape) -> np.ndarray:
    """Row-major reshape of all dimensions but the first, of a compressed array."""
    return Reshape((array.shape[0], *out)).apply(array, (array.shape[0], *shape))
