"""The regularised loss J(θ) = L(θ) + λ|θ|²/2 on flat vectors, with the derivatives that the flows need.

Derivatives above the first are taken in ``functional.derivatives``, reverse over reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.functional.derivatives.higher_derivatives import derivatives, record_gradient
from neuralmechanics.functional.derivatives.verification import require_right_derivatives

__all__ = ["Loss", "Objective", "derivative"]

Loss = Callable[[dict[str, Tensor]], Tensor]


def derivative(scalar: Tensor, variable: Tensor, *, graph: bool) -> Tensor:
    """Gradient of ``scalar`` in ``variable``; zero where it does not depend on it.

    ``graph=True`` keeps what a further derivative needs.
    """
    return derivatives(scalar, [variable], graph=graph)[0]


@dataclass(frozen=True)
class Objective:
    """J(θ) = L(θ) + λ|θ|²/2 of a loss over named parameters, as a function of their flat vector."""

    loss: Loss
    layout: Layout
    weight_decay: float = 0.0

    def at(self, vector: Float64[Tensor, " parameters"]) -> Tensor:
        """J as a scalar tensor that autograd can follow; the loss is checked to be one."""
        if isinstance(self.loss, nn.Module):
            raise TypeError(
                f"the loss is a module ({type(self.loss).__name__}), not a function of named parameters; make one "
                "of it with module_loss(model, loss_fn, batch)"
            )
        value = self.loss(self.layout.unflatten(vector))
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"the loss returned {found}, expected one number: reduce it, for example with .mean()")
        value = value.reshape(()).to(torch.float64)
        if self.weight_decay:
            # Added to the value and not to the gradient, so that every higher derivative has it too.
            value = value + 0.5 * self.weight_decay * vector.dot(vector)
        return value

    def value(self, vector: Float64[Tensor, " parameters"]) -> float:
        """J as a number. The loss may differentiate inside, so it runs as in training."""
        with torch.enable_grad():
            return float(self.at(vector.detach().requires_grad_(True)).detach())

    def gradient(self, vector: Float64[Tensor, " parameters"]) -> Float64[Tensor, " parameters"]:
        """G = ∇L + λθ: one backward pass."""
        with torch.enable_grad():
            point = vector.detach().requires_grad_(True)
            value = self.at(point)
            # Torch would complain of a tensor without a graph and not say that it is the loss.
            if not value.requires_grad:
                raise ValueError("the loss does not depend on any of the parameters it was given")
            (slope,) = torch.autograd.grad(value, point)
        return slope

    def recorded_gradient(self, vector: Float64[Tensor, " parameters"], order: int) -> tuple[Tensor, Tensor]:
        """The point and G there, both on the autograd tape, for derivatives of J up to ``order``."""
        point = vector.detach().requires_grad_(True)
        _, (slope,) = record_gradient(lambda: self.at(point), [point], order)
        return point, slope

    def require(self, vector: Float64[Tensor, " parameters"], order: int) -> Float64[Tensor, " parameters"]:
        """The point, where derivatives of J up to ``order`` exist and are right there; else NoDerivativeError."""
        require_right_derivatives(self.at, vector, order)
        return vector

    def gradient_and_product(
        self, vector: Float64[Tensor, " parameters"], direction: Callable[[Tensor], Tensor] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """G and (H + λ)u, where u is given or made from G: two backward passes, reverse over reverse."""
        point, slope = self.recorded_gradient(vector, 2)
        given = slope.detach()
        # Made from a gradient off the tape: the product is (H + λ)u with u held fixed.
        along = direction if isinstance(direction, Tensor) else direction(given)
        with torch.enable_grad():
            product = derivative(slope.dot(along), point, graph=False)
        return given, product


def named_gradient(loss: Loss, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """∇L under the names of ``params``, float64."""
    layout = Layout.of(params)
    return layout.unflatten(Objective(loss, layout).gradient(layout.flatten(params)))
