"""Rearrangements: entries moved, repeated, picked, put and padded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.index import Index
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, View
from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.primitives.primitive import Shape, V, sizes_of, within
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError

__all__ = ["Concatenate", "Gather", "Pad", "Rearrange", "Resize", "Scatter", "Spread"]


@dataclass(frozen=True)
class Rearrange:
    """A reshape, a permutation of dimensions, a broadcast, or entries taken along one dimension."""

    view: View

    def output_shape(self, *xs: Shape) -> Shape:
        (shape,) = xs
        view = self.view
        if isinstance(view, Reshape):
            fits = math.prod(sizes_of(view.shape)) == math.prod(shape)
        elif isinstance(view, Permute):
            fits = sorted(view.order) == list(range(len(shape)))
        elif isinstance(view, Expand):
            front = len(sizes_of(view.shape)) - len(shape)
            fits = front >= 0 and all(n in (1, m) for n, m in zip(shape, view.shape[front:], strict=True))
        else:
            fits = view.dim in range(len(shape)) and all(0 <= k < shape[view.dim] for k in view.positions)
        if not fits:
            raise UnsupportedFormError(f"{view} of a tensor of shape {shape}")
        return tuple(int(n) for n in view.output_shape(shape))

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.view(xs[0], self.view)


@dataclass(frozen=True)
class Concatenate:
    """Tensors one behind the other along ``dim``."""

    dim: int

    def output_shape(self, *xs: Shape) -> Shape:
        if not xs:
            raise UnsupportedFormError("a concatenation of nothing")
        (dim,) = within(xs[0], [self.dim])
        rest = {tuple(n for d, n in enumerate(x) if d != dim) for x in xs}
        if len(rest) > 1 or len({len(x) for x in xs}) > 1:
            raise UnsupportedFormError(f"a concatenation of shapes {', '.join(map(str, xs))}")
        return (*xs[0][:dim], sum(x[dim] for x in xs), *xs[0][dim + 1 :])

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.cat(xs, self.dim)


@dataclass(frozen=True)
class Pad:
    """Zeros before and after the entries along ``dim``."""

    dim: int
    before: int
    after: int

    def output_shape(self, *xs: Shape) -> Shape:
        (shape,) = xs
        (dim,) = within(shape, [self.dim])
        return tuple(n + self.before + self.after if d == dim else n for d, n in enumerate(shape))

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.zero_padded(xs[0], self.dim, self.before, self.after)


@dataclass(frozen=True)
class Resize:
    """Another size along dimensions that carry nothing of their own (how many entries the data decide)."""

    shape: Shape
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.resized(xs[0], self.shape)


@dataclass(frozen=True)
class Gather:
    """Entries along ``dim`` picked by an index, whose dimensions take the place of ``dim``.

    ``some``: it may be that there are places which no data name.
    """

    dim: int
    index_shape: Shape
    index: Index = field(repr=False)
    some: bool = False
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        (shape,) = xs
        (dim,) = within(shape, [self.dim])
        return (*shape[:dim], *sizes_of(self.index_shape), *shape[dim + 1 :])

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.gather(xs[0], self.dim, self.index_shape, self.index)


@dataclass(frozen=True)
class Spread:
    """Entries along ``dim`` in places that the data decide, others for each entry along ``apart``.

    ``some``: it may be that there are places which no data name.
    """

    dim: int
    apart: tuple[int, ...] = ()
    some: bool = False
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        within(xs[0], [self.dim, *self.apart])
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.spread_along(xs[0], self.dim, self.apart)


@dataclass(frozen=True)
class Scatter:
    """The last operand put into, or (``adds``) added to, places along ``dim`` of the first, or of zeros."""

    dim: int
    shape: Shape
    apart: tuple[int, ...] = ()
    function: Function | None = None
    adds: bool = field(default=False, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        within(xs[-1], [self.dim])
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        onto = xs[0] if len(xs) == 2 else None
        return domain.placed(onto, xs[-1], self.dim, self.shape, self.apart)
