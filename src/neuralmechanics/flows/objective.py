"""The regularised loss J(θ) = L(θ) + λ|θ|²/2 on flat vectors, with the derivatives that the flows need.

Everything here is reverse mode, or reverse over reverse. Forward mode nested in forward mode is silently wrong
through normalisation layers and is used nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.layout import Layout

__all__ = ["Loss", "Objective", "derivative"]

Loss = Callable[[dict[str, Tensor]], Tensor]


def derivative(scalar: Tensor, variable: Tensor, *, graph: bool) -> Tensor:
    """Gradient of ``scalar`` in ``variable``; zero where it does not depend on it.

    ``graph=True`` keeps what a further derivative needs.
    """
    if not scalar.requires_grad:
        return torch.zeros_like(variable)
    (slope,) = torch.autograd.grad(
        scalar, variable, create_graph=graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return slope if graph else slope.detach()


@dataclass(frozen=True)
class Objective:
    """J(θ) = L(θ) + λ|θ|²/2 of a loss over named parameters, as a function of their flat vector."""

    loss: Loss
    layout: Layout
    weight_decay: float = 0.0

    def at(self, vector: Float64[Tensor, " parameters"]) -> Tensor:
        """J as a scalar tensor that autograd can follow; the loss is checked to be one."""
        value = self.loss(self.layout.unflatten(vector))
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"the loss returned {found}, expected one number: reduce it, for example with .mean()")
        value = value.reshape(()).to(torch.float64)
        if self.weight_decay:
            value = value + 0.5 * self.weight_decay * vector.dot(vector)
        return value

    def value(self, vector: Float64[Tensor, " parameters"]) -> float:
        """J without derivatives."""
        with torch.no_grad():
            return float(self.at(vector))

    def gradient(self, vector: Float64[Tensor, " parameters"]) -> Float64[Tensor, " parameters"]:
        """G = ∇L + λθ: one backward pass."""
        with torch.enable_grad():
            point = vector.detach().requires_grad_(True)
            value = self.at(point)
            if not value.requires_grad:
                raise ValueError("the loss does not depend on any of the parameters it was given")
            (slope,) = torch.autograd.grad(value, point)
        return slope

    def recorded_gradient(self, vector: Float64[Tensor, " parameters"]) -> tuple[Tensor, Tensor]:
        """The point and G there, both on the autograd tape, for further derivatives."""
        with torch.enable_grad():
            point = vector.detach().requires_grad_(True)
            return point, derivative(self.at(point), point, graph=True)

    def gradient_and_product(
        self, vector: Float64[Tensor, " parameters"], direction: Callable[[Tensor], Tensor] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """G and (H + λ)u, where u is given or made from G: two backward passes, reverse over reverse."""
        point, slope = self.recorded_gradient(vector)
        given = slope.detach()
        along = direction if isinstance(direction, Tensor) else direction(given)
        with torch.enable_grad():
            product = derivative(slope.dot(along), point, graph=False)
        return given, product


def named_gradient(loss: Loss, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """∇L under the names of ``params``, float64."""
    layout = Layout.of(params)
    return layout.unflatten(Objective(loss, layout).gradient(layout.flatten(params)))
