"""Changes of tensors under a shift of parameters: coefficients times functions of the data, and their algebra."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem, Seen
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups

Shape = tuple[int, ...]
Key = tuple[Hashable, ...]


class Name(tuple[Hashable, ...]):
    """How a value came to be: an operation and the names of what it read, hashed once.

    Names nest as the graph does, each operand inside; hashing them afresh would walk every path through the graph.
    """

    _hash: int

    def __new__(cls, *parts: Hashable) -> Self:
        name = super().__new__(cls, parts)
        name._hash = tuple.__hash__(name)
        return name

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Mapped:
    """The step of a function's identity that a sum of products with another tensor is.

    ``absorbed``: the dimensions of the changed tensor whose coefficients became numbers of functions.
    ``summed``: sizes of the changed tensor along the letters that are summed; a constant there is multiplied by them.
    """

    other: Hashable
    how: Contraction
    letters: str
    absorbed: tuple[int, ...]
    summed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gained:
    """The step of a function's identity that a product with another tensor is; ``absorbed`` as that of ``Mapped``."""

    other: Hashable
    absorbed: tuple[int, ...]


Along = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class ChangeTerm:
    """factor·Σ_k u[ids[…, k]]·φ_k, where φ_k is a function of the tensor's dimensions in ``varies`` only.

    ``ids`` is compressed over the tensor's dimensions, with one more at the end that numbers the functions of ``key``;
    along the dimensions where φ varies it has one entry. ``along`` lists pairs (dimension of the tensor, axis of φ):
    h[i] + h[j] has two terms of one function that lie along different dimensions, and such terms never cancel.
    ``seen`` notes when the coefficients were last looked at, so that this need not be done again.
    """

    key: Key
    ids: np.ndarray
    along: Along = ()
    factor: float = 1.0
    seen: Seen | None = None

    @cached_property
    def varies(self) -> frozenset[int]:
        """The dimensions of the tensor along which the functions differ."""
        return frozenset(d for d, _ in self.along)

    @cached_property
    def function(self) -> Hashable:
        """The functions as entries of this tensor: terms that agree in it may cancel."""
        return Name(self.key, self.along, self.ids.shape[-1])

    @cached_property
    def pattern(self) -> frozenset[int]:
        """Dimensions along which the coefficients differ."""
        return frozenset(d for d, n in enumerate(self.ids.shape[:-1]) if n > 1)

    def then(self, step: Hashable, ids: np.ndarray, varies: Iterable[int]) -> ChangeTerm:
        """The term after an operation ``step`` that makes new functions, whose axes are the tensor's dimensions.

        How the old functions lay along the dimensions that the step speaks of becomes a part of the identity.
        """
        turned = () if all(d == axis for d, axis in self.along) else (("along", self.along),)
        return ChangeTerm((*self.key, *turned, step), ids, own_axes(varies), self.factor)

    def moved(self, ids: np.ndarray, places: Mapping[int, int]) -> ChangeTerm:
        """The same functions in a tensor where dimension d is found at ``places[d]``."""
        along = tuple(sorted((places[d], axis) for d, axis in self.along))
        return replace(self, ids=ids, along=along)

    def absorbed(self, dims: Iterable[int], sizes: Sequence[int]) -> np.ndarray:
        """``ids`` with the coefficients' dependence on ``dims`` moved into the functions' number."""
        moved = sorted(d for d in set(dims) if self.ids.shape[d] > 1)
        rest = [d for d in range(self.ids.ndim - 1) if d not in moved]
        shape = [1 if d in moved else self.ids.shape[d] for d in range(self.ids.ndim - 1)]
        order = [*rest, *moved, self.ids.ndim - 1]
        count = math.prod(self.ids.shape[d] for d in moved) * self.ids.shape[-1]
        return self.ids.transpose(order).reshape([*shape_of(self.ids, rest), count]).reshape([*shape, count])


def own_axes(dims: Iterable[int]) -> Along:
    """Functions whose axes are numbered as the tensor's dimensions are."""
    return tuple((d, d) for d in sorted(dims))


def shape_of(array: np.ndarray, dims: Sequence[int]) -> list[int]:
    return [array.shape[d] for d in dims]


@dataclass(frozen=True, eq=False)
class Change:
    """The change of a tensor, the dimensions along which the tensor itself differs, and a name for its value.

    ``sums_to_one``, ``sums_to_zero``: a dimension along which the tensor's entries add up to that.
    """

    shape: Shape
    varies: frozenset[int]
    name: Hashable
    terms: tuple[ChangeTerm, ...] = ()
    sums_to_one: int | None = None
    sums_to_zero: int | None = None


def wide_dims(shape: Sequence[int]) -> frozenset[int]:
    return frozenset(d for d, n in enumerate(shape) if n > 1)


def letters_of(dims: frozenset[int], letters: str) -> set[str]:
    return {letters[d] for d in dims}


def by_function(terms: Iterable[ChangeTerm]) -> list[list[ChangeTerm]]:
    """Terms of the same functions together."""
    groups: dict[Hashable, list[ChangeTerm]] = {}
    for t in terms:
        groups.setdefault(t.function, []).append(t)
    return list(groups.values())


def first_entries(ids: np.ndarray, dims: frozenset[int]) -> np.ndarray:
    return ids[tuple(slice(0, 1) if d in dims else slice(None) for d in range(ids.ndim))]


def aligned(x: Change, shape: Shape) -> Change:
    if x.shape == shape:
        return x
    front = len(shape) - len(x.shape)
    places = {d: d + front for d in range(len(x.shape))}
    terms = tuple(t.moved(t.ids.reshape((1,) * front + t.ids.shape), places) for t in x.terms)
    return Change(shape, frozenset(d + front for d in x.varies), Name("expand", x.name, x.shape, shape), terms)


def times(t: ChangeTerm, other: Change) -> ChangeTerm:
    """The term multiplied by a tensor that is known to be constant along some axes."""
    moved = tuple(sorted(other.varies & t.pattern))
    ids = t.absorbed(moved, other.shape)
    return t.then(Gained(other.name, moved), ids, t.varies | other.varies)


def contracted_term(
    t: ChangeTerm, letters: str, sizes: Sequence[int], other: Change, other_letters: str, how: Contraction
) -> ChangeTerm:
    """The term of a tensor of these sizes after a sum of products with ``other``."""
    outer = letters_of(other.varies, other_letters)
    if other.sums_to_one is not None:
        letter = other_letters[other.sums_to_one]
        if letter in letters and letter not in how.out and letters.index(letter) not in t.varies | t.pattern:
            return _averaged(t, letters, how)
    windows = {w.x: w for w in how.windows} | {w.kernel: w for w in how.windows}
    t, sizes, base, takes = _behind_takes(t, letters, sizes, other.name, other_letters, how)
    moved = {letter for letter in letters if letter not in how.out or letter in outer or letter in windows}
    absorbed = tuple(d for d, letter in enumerate(letters) if letter in moved and t.ids.shape[d] > 1)
    ids = t.absorbed(absorbed, ())
    varying = letters_of(t.varies, letters) | outer
    touched = varying | letters_of(t.pattern, letters)
    varying |= {w.out for w in how.windows if w.x in touched or not w.keeps_constants}
    kept = {letter: ids.shape[d] for d, letter in enumerate(letters) if letter not in moved}
    shape = [kept.get(letter, 1) for letter in how.out]
    order = [letters.index(letter) for letter in how.out if letter in kept]
    rest = [d for d in range(len(letters)) if d not in order]
    ids = ids.transpose([*order, *rest, len(letters)]).reshape([*shape, ids.shape[-1]])
    summed = tuple(n for letter, n in zip(letters, sizes, strict=True) if letter not in how.out)
    step = Mapped(base, how, letters, absorbed, summed)
    whole = varying | {how.out[take.dim] for take in takes}
    mapped = t.then(step, ids, (k for k, letter in enumerate(how.out) if letter in whole))
    for take in takes:
        mapped = _taken_term(mapped, take)
    return mapped


def _behind_takes(
    t: ChangeTerm, letters: str, sizes: Sequence[int], name: Hashable, mine: str, how: Contraction
) -> tuple[ChangeTerm, Sequence[int], Hashable, list[Take]]:
    """The term before a product with the whole of a factor of which some entries are taken; and entries of the result.

    Some outputs of a linear map are outputs of the whole map, and some inputs are all of them where the rest is zero.
    """
    takes: list[Take] = []
    windowed = {letter for w in how.windows for letter in (w.x, w.kernel, w.out)}
    while isinstance(name, Name) and name[0] == "view" and isinstance(take := name[2], Take):
        letter = mine[take.dim]
        if letter in how.out and letter not in letters and letter not in windowed:
            takes.insert(0, Take(how.out.index(letter), take.positions))
        elif letter in how.out or letter not in letters or letter in windowed:
            break
        else:
            dim, whole = letters.index(letter), name[3]
            if not isinstance(whole, int) or dim in t.varies or len(set(take.positions)) < len(take.positions):
                break
            ids = np.zeros([whole if d == dim else n for d, n in enumerate(t.ids.shape)], np.int64)
            ids[(slice(None),) * dim + (list(take.positions),)] = t.ids
            t, sizes = replace(t, ids=ids), [whole if d == dim else n for d, n in enumerate(sizes)]
        name = name[1]
    return t, sizes, name, takes


def _averaged(t: ChangeTerm, letters: str, how: Contraction) -> ChangeTerm:
    """The term after a mean along an axis where it is constant, with any weights that sum to one: as it was."""
    order = [letters.index(letter) for letter in how.out if letter in letters]
    rest = [d for d in range(len(letters)) if d not in order]
    shape = [t.ids.shape[letters.index(letter)] if letter in letters else 1 for letter in how.out]
    ids = t.ids.transpose([*order, *rest, len(letters)]).reshape([*shape, t.ids.shape[-1]])
    return t.moved(ids, {letters.index(letter): k for k, letter in enumerate(how.out) if letter in letters})


def zero_along(letters: str, other: Change, other_letters: str, how: Contraction) -> int | None:
    """The dimension of a factor that is summed against entries of the other that add up to zero along it."""
    if other.sums_to_zero is None:
        return None
    letter = other_letters[other.sums_to_zero]
    inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
    return letters.index(letter) if letter in letters and letter not in how.out and letter not in inner else None


def one_along(letters: str, other: Change, other_letters: str, how: Contraction) -> int | None:
    """The dimension of a factor that is summed against entries of the other that add up to one along it."""
    if other.sums_to_one is None:
        return None
    letter = other_letters[other.sums_to_one]
    return letters.index(letter) if letter in letters and letter not in how.out else None


def based(t: ChangeTerm, dim: int, system: ConstraintSystem, cause: int) -> list[ChangeTerm]:
    """Coefficients that differ along ``dim`` as those of the first entry plus differences.

    What is the same for every entry is a constant function whatever is picked, and may cancel another constant.
    """
    if t.ids.shape[dim] == 1:
        return [t]
    base = first_entries(t.ids, frozenset({dim}))
    rest = t.ids.take(np.arange(1, t.ids.shape[dim]), axis=dim)
    differences = system.new(rest.size).reshape(rest.shape)
    table = np.stack([rest.reshape(-1), np.broadcast_to(base, rest.shape).reshape(-1), differences.reshape(-1)], 1)
    system.add([1.0, -1.0, -1.0], table, cause)
    return [replace(t, ids=base), replace(t, ids=np.concatenate([np.zeros_like(base), differences], axis=dim))]


def without_dims(x: Change, bound: frozenset[int], keepdim: bool) -> Change:
    if keepdim:
        return replace(x, shape=tuple(1 if d in bound else n for d, n in enumerate(x.shape)))
    kept = [d for d in range(len(x.shape)) if d not in bound]
    place = {d: k for k, d in enumerate(kept)}
    terms = tuple(t.moved(t.ids.reshape([*(t.ids.shape[d] for d in kept), t.ids.shape[-1]]), place) for t in x.terms)
    return replace(x, shape=tuple(x.shape[d] for d in kept), varies=frozenset(place[d] for d in x.varies), terms=terms)


def placed_in(t: ChangeTerm, dim: int, start: int, length: int, total: int) -> ChangeTerm:
    """The term as a part of a concatenation: zero coefficients on the other parts."""
    if dim in t.varies:
        return t.then(("placed", dim, start, total), t.ids, t.varies)
    sizes = list(t.ids.shape)
    sizes[dim] = total
    ids = np.zeros(sizes, t.ids.dtype)
    index = [slice(None)] * len(sizes)
    index[dim] = slice(start, start + length)
    ids[tuple(index)] = t.ids
    return replace(t, ids=ids)


def restricted_term(t: ChangeTerm, kept: np.ndarray) -> ChangeTerm:
    """The term with zero coefficients where ``kept`` does not hold, if its functions differ along no dimension."""
    return t if t.varies else replace(t, ids=np.where(kept[..., None], t.ids, 0))


def viewed_dims(dims: frozenset[int], view: View, shape: Shape, out: Shape) -> frozenset[int]:
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


def viewed_zero(x: Change, view: View, out: Shape) -> int | None:
    """Where the dimension along which x adds up to zero has gone, if it is whole."""
    dim = x.sums_to_zero
    if dim is None or isinstance(view, Take):
        return None
    if isinstance(view, Permute):
        return view.order.index(dim)
    if isinstance(view, Expand):
        return dim + len(out) - len(x.shape)
    groups = [outside for inside, outside in dimension_groups(x.shape, out) if dim in inside and len(inside) == 1]
    return groups[0][0] if groups and len(groups[0]) == 1 else None


def viewed_term(t: ChangeTerm, view: View, shape: Shape, out: Shape) -> ChangeTerm:
    if isinstance(view, Permute):
        places = {d: k for k, d in enumerate(view.order)}
        return t.moved(t.ids.transpose([*view.order, t.ids.ndim - 1]), places)
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        places = {d: d + front for d in range(len(shape))}
        return t.moved(t.ids.reshape((1,) * front + t.ids.shape), places)
    if isinstance(view, Take):
        if view.dim in t.varies:
            return _taken_term(t, view)
        if t.ids.shape[view.dim] == 1:
            return t
        return replace(t, ids=t.ids.take(np.asarray(view.positions, dtype=np.int64), axis=view.dim))
    return _reshaped_term(t, shape, out)


def _taken_term(t: ChangeTerm, take: Take) -> ChangeTerm:
    """The term at some entries along a dimension where its functions vary: said of their own axis, wherever it lies."""
    axis = dict(t.along)[take.dim]
    left = t.along if len(take.positions) > 1 else tuple(pair for pair in t.along if pair[0] != take.dim)
    return replace(t, key=(*t.key, ("take", axis, take.positions)), along=left)


def _reshaped_term(t: ChangeTerm, shape: Shape, out: Shape) -> ChangeTerm:
    """The term after a reshape: dimensions that merge or split with a varying one become others of new functions."""
    ids, merged = t.ids, False
    places: dict[int, int] = {}
    for inside, outside in dimension_groups(shape, out):
        wide, after = [d for d in inside if shape[d] > 1], [d for d in outside if out[d] > 1]
        if len(wide) == len(after) == 1:
            places[wide[0]] = after[0]
        elif t.varies & set(inside):
            ids, merged = replace(t, ids=ids).absorbed(inside, shape), True
    pattern = tuple(sorted(t.pattern - replace(t, ids=ids).pattern))
    ids = np.moveaxis(_reshaped(np.moveaxis(ids, -1, 0), shape, out), 0, -1)
    if merged:
        return t.then(("reshape", shape, out, pattern), ids, viewed_dims(t.varies, Reshape(out), shape, out))
    lying = tuple((d, axis) for d, axis in t.along if shape[d] > 1)  # a function has no say along a single entry
    return replace(t, along=lying).moved(ids, places)


def _reshaped(array: np.ndarray, shape: Shape, out: Shape) -> np.ndarray:
    """Row-major reshape of all dimensions but the first, of a compressed array."""
    return Reshape((array.shape[0], *out)).apply(array, (array.shape[0], *shape))
