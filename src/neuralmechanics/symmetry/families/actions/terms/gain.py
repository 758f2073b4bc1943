"""Gains: vectors that multiply channels, and through which a transformation of these channels passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.symmetry.families.actions.action import Tensors

__all__ = ["Dressing", "Gain", "adjoint_by_differentiation", "dressing_from", "dressing_to", "gain_values", "living"]


@dataclass(frozen=True, order=True)
class Gain:
    """A vector factor·γ + offset that multiplies channels, γ a parameter or its entries ``start`` to ``stop``.

    A ``stop`` of zero is the end.
    """

    parameter: str
    factor: float = 1.0
    offset: float = 0.0
    start: int = 0
    stop: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of a whole parameter without start and stop."""
        data = asdict(self)
        return data if self.stop else {k: v for k, v in data.items() if k not in ("start", "stop")}


Dressing = tuple[tuple[Gain, float], ...]


def gain_values(
    dressing: Dressing, params: Mapping[str, Tensor], like: Tensor, *, dead: float = 0.0
) -> Float64[Tensor, " width"] | None:
    """The diagonal of D = Π gain^power; None for the identity. Even roots are taken of sizes.

    ``dead``: what stands for a gain of zero.
    """
    total: Tensor | None = None
    for gain, power in dressing:
        value = _multiplied(gain, params).to(like.device)
        # Not behind the power, whose derivative at zero would be nan.
        value = torch.where(value == 0, dead, value) if dead else value
        value = value**power if float(power).is_integer() else value.abs() ** power
        total = value if total is None else total * value
    return total


def living(dressing: Dressing, params: Mapping[str, Tensor], like: Tensor) -> Bool[Tensor, " width"]:
    """Which channels no gain sets to zero."""
    gains = [_multiplied(gain, params).detach().to(like.device) != 0 for gain, _ in dressing]
    return torch.stack(gains).all(0)


def _multiplied(gain: Gain, params: Mapping[str, Tensor]) -> Tensor:
    """factor·γ + offset."""
    entries = params[gain.parameter].double().reshape(-1)[gain.start : gain.stop or None]
    return gain.factor * entries + gain.offset


def dressing_to(dressing: Dressing) -> list[list[Any]]:
    """The gains and powers as plain data."""
    return [[gain.to_dict(), power] for gain, power in dressing]


def dressing_from(data: Iterable[Any]) -> Dressing:
    """The gains and powers that were written as plain data."""
    return tuple((Gain(**gain), float(power)) for gain, power in data)


def adjoint_by_differentiation(
    generator: Callable[[Tensors], Tensors],
    names: Iterable[str],
    gradients: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
) -> Tensors:
    """(∂ξ/∂θ)ᵀ g by differentiating ⟨g, ξ(θ)⟩ with respect to the named parameters, in float64.

    >>> p, g = torch.tensor([3.0]), torch.tensor([1.0])
    >>> adjoint_by_differentiation(lambda q: {"x": q["x"] ** 2}, ["x"], {"x": g}, {"x": p})["x"].tolist()
    [6.0]
    """
    leaves = {name: params[name].detach().double().requires_grad_() for name in dict.fromkeys(names)}
    with torch.enable_grad():
        parts = [(gradients[name].double() * step).sum() for name, step in generator(leaves).items()]
        total = torch.stack(parts).sum()
    # The generator depends on none of them: it is constant, and its adjoint zero.
    if not total.requires_grad:
        return {}
    derivatives = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, derivatives, strict=True))
