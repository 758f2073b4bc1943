"""Where nothing is followed any further, and statements about values."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.primitives.primitive import Shape, V, sizes_of
from neuralmechanics.symmetry.program.refusals import Reason

__all__ = ["Ended", "Fix", "Forget", "Pair"]


@dataclass(frozen=True)
class Forget:
    """A result of an operation that is not followed: a constant, if nothing that enters may change.

    ``hides``: what enters may not show in the result at all, or no gradient passes. ``elementwise``: each entry of the
    result is made of the entries in the same place of the broadcast operands.
    """

    shape: Shape
    reason: Reason
    hides: bool
    function: Function | None = None
    elementwise: bool = field(default=False, repr=False)
    odd: bool = field(default=False, repr=False)
    even: bool = field(default=False, repr=False)

    def output_shape(self, *xs: Shape) -> Shape:
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        domain.fix(*xs)
        return domain.constant(self.shape)


@dataclass(frozen=True)
class Ended:
    """A function of its operands, none of which may change: what a loss is of the differences or angles it sees."""

    shape: Shape
    function: Function | None = None

    def output_shape(self, *xs: Shape) -> Shape:
        return sizes_of(self.shape)

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        domain.fix(*xs)
        return domain.constant(self.shape)


@dataclass(frozen=True)
class Fix:
    """A statement: the operands may not change (outputs, indices, masks).

    ``reason``: they are taken as fixed because an operation without a result is not followed.
    """

    reason: Reason | None = None

    def output_shape(self, *xs: Shape) -> None:
        return None

    def interpreted(self, domain: Domain[V], *xs: V) -> None:
        domain.fix(*xs)


@dataclass(frozen=True)
class Pair:
    """A statement: channels ``first`` and ``second`` of the last dimension turn as the parts of complex numbers."""

    first: tuple[int, ...]
    second: tuple[int, ...]

    def output_shape(self, *xs: Shape) -> None:
        return None

    def interpreted(self, domain: Domain[V], *xs: V) -> None:
        domain.paired(xs[0], self.first, self.second)
