"""Along dimensions: sums of products, sums, extrema, windows, normalisations."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand
from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.primitives.primitive import Shape, V, sizes_of, within, without
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError

__all__ = ["Contract", "Deviation", "Extremum", "Normalise", "Order", "Pool", "Positions", "Reduce", "Softmax"]


@dataclass(frozen=True)
class Contract:
    """A sum of products; where ``function`` is given, another that is linear in x over the reals (a Fourier sum)."""

    how: Contraction
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        x, y = xs
        sizes: dict[str, int] = {}
        for shape, letters in ((x, self.how.x), (y, self.how.y)):
            # A letter twice in one factor takes a diagonal, which no domain that reads letters would see.
            if len(letters) != len(shape) or len(set(letters)) != len(letters):
                raise UnsupportedFormError(f"letters {letters!r} for a tensor of shape {shape}")
            for letter, n in zip(letters, shape, strict=True):
                if sizes.get(letter, 1) not in (1, n) and n != 1:
                    raise UnsupportedFormError(f"sizes {sizes[letter]} and {n} along {letter!r} of a sum of products")
                sizes[letter] = max(n, sizes.get(letter, 1))
        if not set(self.how.out) <= set(sizes) | {w.out for w in self.how.windows}:
            raise UnsupportedFormError(f"a sum of products {self.how.x},{self.how.y}->{self.how.out}")
        return self.how.output_shape(x, y)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.contract(xs[0], xs[1], self.how)


@dataclass(frozen=True)
class Reduce:
    """The sum or the mean over ``dims``; where ``function`` is given, another that scales as a sum of sizes does."""

    dims: tuple[int, ...]
    keepdim: bool
    mean: bool
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return without(xs[0], self.dims, self.keepdim)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.reduce(xs[0], self.dims, self.keepdim, self.mean)


@dataclass(frozen=True)
class Extremum:
    """The maximum (``largest``) or the minimum over ``dims``."""

    dims: tuple[int, ...]
    keepdim: bool
    largest: bool = True

    def output_shape(self, *xs: Shape) -> Shape:
        return without(xs[0], self.dims, self.keepdim)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.extremum(xs[0], self.dims, self.keepdim)


@dataclass(frozen=True)
class Order:
    """Entries along ``dim`` in the order of their size, all of them or as many as ``shape`` holds."""

    dim: int
    shape: Shape
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        (dim,) = within(xs[0], [self.dim])
        if tuple(n for k, n in enumerate(xs[0]) if k != dim) != tuple(n for k, n in enumerate(self.shape) if k != dim):
            raise UnsupportedFormError(f"order along dimension {dim} from shape {xs[0]} to {self.shape}")
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        """What is not the same along the dimension may change the order, so the entries go as their extremum does."""
        even = domain.view(domain.extremum(xs[0], (self.dim,), True), Expand(self.shape))
        return domain.spread_along(even, self.dim)


@dataclass(frozen=True)
class Positions:
    """Where the extremum over ``dims`` stands."""

    dims: tuple[int, ...]
    keepdim: bool
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return without(xs[0], self.dims, self.keepdim)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.positions(xs[0], self.dims, self.keepdim)


@dataclass(frozen=True)
class Deviation:
    """The standard deviation over ``dims``: √(Σ(x - mean)²/(count - correction))."""

    dims: tuple[int, ...]
    keepdim: bool
    correction: float = 1.0

    def output_shape(self, *xs: Shape) -> Shape:
        return without(xs[0], self.dims, self.keepdim)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.deviation(xs[0], self.dims, self.keepdim)


@dataclass(frozen=True)
class Pool:
    """Means (``linear``) or maxima over windows along ``dims``; ``how`` names the function.

    ``signed``: some weights of the means are negative.
    """

    dims: tuple[int, ...]
    shape: Shape
    linear: bool
    keeps_constants: bool
    how: Hashable = field(repr=False)
    function: Function | None = None
    signed: bool = False

    def output_shape(self, *xs: Shape) -> Shape:
        within(xs[0], self.dims)
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.pool(xs[0], self.dims, self.shape, self.linear, self.keeps_constants, self.how)


@dataclass(frozen=True)
class Normalise:
    """x, less its mean over ``dims`` where ``center``, divided by its size there: the root of Σx², or of its ``mean``.

    What breaks it, an eps, is added to the square; ``function``: another way to keep the size from zero.
    """

    dims: tuple[int, ...]
    center: bool
    broken_by: Breaking | None
    mean: bool = True
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        within(xs[0], self.dims)
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.normalise(xs[0], self.dims, self.center, self.broken_by)


@dataclass(frozen=True)
class Softmax:
    """Softmax, or its logarithm, along ``dim``; where ``function`` is given, that of some of the entries.

    ``chosen``: along which dimensions these differ, where that is known.
    """

    dim: int
    log: bool = False
    function: Function | None = None
    chosen: tuple[int, ...] | None = field(default=None, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        within(xs[0], [self.dim])
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.softmax(xs[0], self.dim, self.log)
