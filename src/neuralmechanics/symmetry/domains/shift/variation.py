"""Changes of tensors under a shift of parameters: coefficients times functions of the data, and their algebra."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem, Seen

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
        # Without it h[i] and h[j] would come out of one step as the same function, and might cancel.
        turned = () if all(d == axis for d, axis in self.along) else (("along", self.along),)
        return ChangeTerm((*self.key, *turned, step), ids, own_axes(varies), self.factor)

    def moved(self, ids: np.ndarray, places: Mapping[int, int]) -> ChangeTerm:
        """The same functions in a tensor where dimension d is found at ``places[d]``."""
        along = tuple(sorted((places[d], axis) for d, axis in self.along))
        return replace(self, ids=ids, along=along)

    def absorbed(self, dims: Iterable[int], sizes: Sequence[int]) -> np.ndarray:
        """``ids`` with the coefficients' dependence on ``dims`` moved into the functions' number."""
        # In one fixed order, or equal functions of two terms would have different numbers.
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
    # A single entry that is repeated is the same everywhere, whatever it is.
    places = {d: d + front for d in wide_dims(x.shape)}
    terms = tuple(alone_nowhere(t, x.shape).moved(t.ids.reshape((1,) * front + t.ids.shape), places) for t in x.terms)
    varies = frozenset(d + front for d in x.varies & wide_dims(x.shape))
    return Change(shape, varies, Name("expand", x.name, x.shape, shape), terms)


def alone_nowhere(t: ChangeTerm, shape: Shape) -> ChangeTerm:
    """The term of which no function lies along a dimension of one entry."""
    lying = tuple((d, axis) for d, axis in t.along if shape[d] > 1)
    return t if lying == t.along else replace(t, along=lying)


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


def restricted_term(t: ChangeTerm, kept: np.ndarray) -> ChangeTerm:
    """The term with zero coefficients where ``kept`` does not hold, if its functions differ along no dimension."""
    return t if t.varies else replace(t, ids=np.where(kept[..., None], t.ids, 0))
