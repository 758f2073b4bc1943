"""One entry at a time: sums, products, powers, and functions of one tensor or of several."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.primitives.primitive import Shape, V, broadcast, sizes_of

__all__ = [
    "Add",
    "AddNumber",
    "Exponential",
    "Homogeneous",
    "Logarithm",
    "Mask",
    "Maximum",
    "Multiply",
    "Noise",
    "Nonlinear",
    "Power",
    "Restrict",
    "Scale",
    "Select",
]


@dataclass(frozen=True)
class Add:
    """x + scale·y."""

    scale: float = 1.0

    def output_shape(self, *xs: Shape) -> Shape:
        x, y = xs
        return broadcast(x, y)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.add(xs[0], xs[1], self.scale)


@dataclass(frozen=True)
class AddNumber:
    """x + number; ``broken_by``: the number is an eps, which breaks a scaling by a measurable amount."""

    number: float
    broken_by: Breaking | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.add_number(xs[0], self.number, self.broken_by)


@dataclass(frozen=True)
class Scale:
    """factor·x."""

    factor: float

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.scaled(xs[0], self.factor)


@dataclass(frozen=True)
class Multiply:
    """x·y; where ``function`` is given, another that is linear in x for given data y (a part of a complex number)."""

    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        x, y = xs
        return broadcast(x, y)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.mul(xs[0], xs[1])


# Compared by identity: arrays compare entry by entry, and that is no truth value.
@dataclass(frozen=True, eq=False)
class Restrict:
    """x, of which only the entries where ``kept`` holds matter: all that reads it multiplies the others by zero."""

    kept: np.ndarray = field(repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.restricted(xs[0], self.kept)

    def of_entries(self, take: Take) -> Restrict:
        """The same for some entries of x along a dimension."""
        return Restrict(self.kept.take(take.positions, axis=take.dim))


@dataclass(frozen=True)
class Power:
    """x to a fixed power; where ``function`` is given, that, which scales alike (signs scale as the power 0)."""

    exponent: float
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.power(xs[0], self.exponent)


@dataclass(frozen=True)
class Homogeneous:
    """A function with f(a·x) = a·f(x) for a > 0 that is not linear; ``even``: f(-x) = f(x)."""

    nonnegative: bool = False
    function: Function | None = None
    even: bool = field(default=False, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.homogeneous(xs[0])


@dataclass(frozen=True)
class Nonlinear:
    """Any other elementwise function of its broadcast operands; where ``floor`` is given, max(x, floor).

    ``odd``: f(-x) = -f(x), ``even``: f(-x) = f(x), of one operand.
    """

    nonnegative: bool = False
    floor: float | None = None
    function: Function | None = None
    odd: bool = field(default=False, repr=False)
    even: bool = field(default=False, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        return broadcast(*xs)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.nonlinear(*xs)


@dataclass(frozen=True)
class Exponential:
    """exp(x): a sum in x is a product of the result."""

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        # To the domains a function like any other: what quotients of exponentials do not see is a softmax by now.
        return domain.nonlinear(xs[0])


@dataclass(frozen=True)
class Logarithm:
    """log(x): a product in x is a sum of the result."""

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.nonlinear(xs[0])


@dataclass(frozen=True)
class Maximum:
    """The larger (``largest``) or the smaller of two tensors, entry by entry."""

    largest: bool = True

    def output_shape(self, *xs: Shape) -> Shape:
        x, y = xs
        return broadcast(x, y)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.larger(xs[0], xs[1])


@dataclass(frozen=True)
class Noise:
    """x times a random mask."""

    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return xs[0]

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.noise(xs[0])


@dataclass(frozen=True)
class Select:
    """x or y, by a mask: a value, by its index, where it is known."""

    shape: Shape
    function: Function | None = None
    mask: int | None = field(default=None, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        x, y = xs
        broadcast(x, y, sizes_of(self.shape))
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.select(xs[0], xs[1], self.shape)


@dataclass(frozen=True)
class Mask:
    """x with a number where a mask holds: a value, by its index, where it is known.

    ``by_place``: which entries these are is decided by their places alone, in every run.
    """

    number: float
    shape: Shape
    function: Function | None = None
    mask: int | None = field(default=None, repr=False)
    by_place: bool = field(default=False, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.masked(xs[0], self.number, self.shape)
