"""Gains: vectors that multiply channels, and through which a transformation of these channels passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.symmetry.families.actions.action import Tensors

__all__ = ["Dressing", "Gain", "adjoint_by_differentiation", "dressing_from", "dressing_to", "gain_values", "living"]


@dataclass(frozen=True, order=True)
class Gain:
    """A vector factor·γ + offset that multiplies channels, γ a parameter or its entries ``start`` to ``stop``.

    A ``stop`` of zero is the end. Every ``stride``-th entry is a channel's. Where a space has copies (heads) of which
    each has entries of its own, ``copies`` says for each how many there are, how far their entries lie apart, and which
    of the copies it counts.

    >>> Gain("gamma", stop=3, copies=((2, 3, 0),)).places(6).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """

    parameter: str
    factor: float = 1.0
    offset: float = 0.0
    start: int = 0
    stop: int = 0
    stride: int = 1
    copies: tuple[tuple[int, int, int], ...] = ()

    def places(self, entries: int) -> np.ndarray:
        """The numbers of the channels' entries among so many of γ, for each copy, [*copies, width]."""
        found = np.arange(self.start, self.stop or entries, self.stride)
        for size, stride, _ in reversed(self.copies):
            found = found + stride * np.arange(size).reshape(-1, *(1,) * found.ndim)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of a whole parameter without start and stop, and of one vector for all copies without these."""
        data = asdict(self) | {"copies": [list(copy) for copy in self.copies]}
        without = () if self.stop else ("start", "stop")
        without = without if self.copies else (*without, "stride", "copies")
        return {k: v for k, v in data.items() if k not in without}


Dressing = tuple[tuple[Gain, float], ...]


def gain_values(
    dressing: Dressing, params: Mapping[str, Tensor], like: Tensor, *, dead: float = 0.0
) -> Float64[Tensor, "*copies width"] | None:
    """The diagonal of D = Π gain^power; None for the identity. Even roots are taken of sizes.

    For each copy, where gains have entries of each. ``dead``: what stands for a gain of zero.
    """
    total: Tensor | None = None
    for gain, power in dressing:
        value = _multiplied(gain, params).to(like.device)
        # Not behind the power, whose derivative at zero would be nan.
        value = torch.where(value == 0, dead, value) if dead else value
        value = value**power if float(power).is_integer() else value.abs() ** power
        total = value if total is None else total * value
    return total


def living(dressing: Dressing, params: Mapping[str, Tensor], like: Tensor) -> Bool[Tensor, "*copies width"]:
    """Which channels no gain sets to zero."""
    gains = [_multiplied(gain, params).detach().to(like.device) != 0 for gain, _ in dressing]
    alive = gains[0]
    for other in gains[1:]:
        alive = alive & other
    return alive


def _multiplied(gain: Gain, params: Mapping[str, Tensor]) -> Tensor:
    """factor·γ + offset."""
    value = params[gain.parameter].double().reshape(-1)
    entries = value[torch.as_tensor(gain.places(len(value)), device=value.device)]
    return gain.factor * entries + gain.offset


def dressing_to(dressing: Dressing) -> list[list[Any]]:
    """The gains and powers as plain data."""
    return [[gain.to_dict(), power] for gain, power in dressing]


def dressing_from(data: Iterable[Any]) -> Dressing:
    """The gains and powers that were written as plain data."""
    return tuple(
        (Gain(**{**gain, "copies": tuple(map(tuple, gain.get("copies", ())))}), float(power)) for gain, power in data
    )


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
