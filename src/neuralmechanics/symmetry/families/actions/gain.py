"""Gains: vectors that multiply channels, and through which a transformation of these channels must pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float64
from torch import Tensor

__all__ = ["Dressing", "Gain", "dressing_from", "gain_values"]


@dataclass(frozen=True, order=True)
class Gain:
    """A vector factor·γ + offset that multiplies channels, γ a parameter."""

    parameter: str
    factor: float = 1.0
    offset: float = 0.0


Dressing = tuple[tuple[Gain, float], ...]


def gain_values(dressing: Dressing, params: Mapping[str, Tensor], like: Tensor) -> Float64[Tensor, " width"] | None:
    """The diagonal of D = Π gain^power; None for the identity. Even roots are taken of sizes."""
    total: Tensor | None = None
    for gain, power in dressing:
        value = gain.factor * params[gain.parameter].double().reshape(-1).to(like.device) + gain.offset
        value = value**power if float(power).is_integer() else value.abs() ** power
        total = value if total is None else total * value
    return total


def dressing_from(data: Iterable[Any]) -> Dressing:
    """The gains and powers that were written as plain data."""
    return tuple((Gain(**gain), float(power)) for gain, power in data)
