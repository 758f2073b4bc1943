"""Where values begin: parameters, and what no parameter reaches."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.primitives.primitive import Shape, V, sizes_of

__all__ = ["Constant", "Parameter", "Unread"]


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter."""

    name: str
    shape: Shape

    def output_shape(self, *xs: Shape) -> Shape:
        return self.shape

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.parameter(self.name)


@dataclass(frozen=True)
class Unread:
    """A statement: no output depends on the entries of the parameter that ``view`` takes."""

    name: str
    view: Take

    def output_shape(self, *xs: Shape) -> None:
        return None

    def interpreted(self, domain: Domain[V], *xs: V) -> None:
        domain.unread(self.name, self.view)


@dataclass(frozen=True)
class Constant:
    """Data, buffers and numbers. ``number``: what fills it; ``nonnegative``: no entry is negative; where known.

    Operands, if there are any, are data that it was computed from, by the function that ``computed`` tells from others;
    ``elementwise``: entry by entry. ``entries_of``: its entries are, one by one and in their order, a function of those
    of the tensor of the model that the graph calls so.
    """

    shape: Shape
    number: float | None = None
    nonnegative: bool = False
    function: Function | None = None
    computed: Hashable = field(default=None, repr=False)
    elementwise: bool = False
    entries_of: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # A leaf has no operands whose shapes would be checked against it, so it is checked where it is made.
        object.__setattr__(self, "shape", sizes_of(self.shape))

    def output_shape(self, *xs: Shape) -> Shape:
        return self.shape

    def interpreted(self, domain: Domain[V], *xs: V) -> V:
        return domain.constant(self.shape)
