"""Groups that act on channels: which there are, the factors and the copies that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from neuralmechanics.symmetry.families.breaking import Breaking

__all__ = ["GROUPS", "Copies", "Direction", "SpaceGroup"]


SpaceGroup = Literal[
    "permutation",
    "signed permutation",
    "positive monomial",
    "monomial",
    "ones-preserving orthogonal",
    "orthogonal",
    "general linear",
]


GROUPS: tuple[str, ...] = get_args(SpaceGroup)


MATRIX_GROUPS = ("ones-preserving orthogonal", "orthogonal", "general linear")


@dataclass(frozen=True)
class Copies:
    """A space has an element of its own for each of ``size`` heads, experts or groups: what they are called."""

    name: str
    size: int


@dataclass(frozen=True)
class Direction:
    """Factors, one a channel, that may be chosen freely: entry k is multiplied by factor^exponents[k].

    ``kind`` "sign": the factors are ±1; "scale": positive, where constants of ``broken_by`` break it by a little.
    ``own``: gains that multiply the channels stay as they are.
    """

    kind: Literal["sign", "scale"]
    exponents: tuple[float, ...]
    own: bool = True
    broken_by: tuple[Breaking, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether no constant breaks it."""
        return not self.broken_by
