"""The interface of primitives, and the checks of their operands' shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError

__all__ = ["Primitive", "Shape", "V", "broadcast", "sizes_of", "within", "without"]

V = TypeVar("V")
Shape = tuple[int, ...]


class Primitive(Protocol):
    """One operation of the program, with its settings."""

    def output_shape(self, *xs: Shape) -> Shape | None:
        """The shape of the result for operands of shapes ``xs``; None where there is none.

        Raises ``UnsupportedFormError`` for operands that do not fit.
        """

    def interpreted(self, domain: Domain[V], *xs: V) -> V | None:
        """What ``domain`` makes of it."""


def broadcast(*xs: Shape) -> Shape:
    try:
        return tuple(np.broadcast_shapes(*xs))
    except ValueError:
        raise UnsupportedFormError(f"shapes {', '.join(map(str, xs))} do not broadcast") from None


def within(shape: Shape, dims: Sequence[Any]) -> frozenset[int]:
    """The dimensions, counted from the front."""
    rank = max(1, len(shape))
    for d in dims:
        if not isinstance(d, (int, np.integer)) or not -rank <= d < rank:
            raise UnsupportedFormError(f"dimension {d!r} of a tensor of shape {shape}")
    return frozenset(int(d) % rank for d in dims)


def sizes_of(shape: Sequence[Any]) -> Shape:
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
        raise UnsupportedFormError(f"{tuple(shape)!r} is no shape")
    return tuple(int(n) for n in shape)


def without(shape: Shape, dims: Sequence[int], keepdim: bool) -> Shape:
    bound = within(shape, dims)
    if keepdim:
        return tuple(1 if d in bound else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in bound)
