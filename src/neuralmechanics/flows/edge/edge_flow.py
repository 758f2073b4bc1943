"""The edge flow: centre, direction and size of the oscillation, the size growing by the curvature at the centre."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.two_ended import Averages, Ends, TwoEnded, two_ended
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import System
from neuralmechanics.optimizers.hyperparameters.bounds import require_nonnegative, require_positive, require_rmsprop

__all__ = ["EdgeFlow", "EdgeRMSpropFlow"]

# A step changes the size by the factor ηλ - 1 at most so far down: that of a rod on a flat loss, e^{-2}.
_SMALLEST_FACTOR = math.exp(-2)


def _growth(objective: Objective, ends: Ends, learning_rate: float) -> Tensor:
    """ηv' = P⁻¹Hv - λv + log(λ - 1) v, with λ = vᵀHv/vᵀPv and P = R/η."""
    precision = ends.divisor / learning_rate
    square = float((ends.swing.square() * precision).sum())
    if square == 0:
        return torch.zeros_like(ends.swing)
    # Of length one, so that the smallest of swings loses no digits.
    direction = ends.swing / math.sqrt(square)
    _, curved = objective.gradient_and_product(ends.centre, direction)
    curvature = float(direction.dot(curved))
    factor = max(curvature - 1, _SMALLEST_FACTOR)
    return math.sqrt(square) * (curved / precision + (math.log(factor) - curvature) * direction)


@dataclass(frozen=True)
class EdgeFlow:
    """c' = -(g₊ + g₋)/2,  u' = Hu - λu,  a'/a = log(ηλ - 1)/η,  λ = uᵀHu,  g± = ∇J(c ± au): descent past the edge.

    The centre follows the gradient of the loss averaged over both sides of an oscillation au; the direction u climbs
    the Rayleigh quotient of the Hessian at the centre, towards its top eigenvector; the size a grows or shrinks as
    λ is above or below 2/η, by the factor ηλ - 1 that a step of descent gives it (for ηλ - 1 < e^{-2} by that). Where
    a is small the centre obeys gradient flow; where it has grown, its force -½a²∇(uᵀHu) lowers λ again. On the valley
    ½yx² - cy that makes closed orbits, along which a²/4 - c log a + ∫log(ηy - 1)dy/η is conserved.

    As H is taken at the centre, a valley whose curvature changes along u alone does not stop the growth; ``RodFlow``
    takes the curvature between the ends. θ0 is an iterate, and the oscillation at time 0 reaches to the next one; with
    ``swing``, au there, θ0 is the centre. The state holds v = au: ``flow.oscillation(path.at(k), **path.beside(k))``.
    Two gradients and one Hessian-vector product an evaluation. Source: Marion 2026, Edge Flow: A Tractable and
    Predictive Continuous-Time Model for Gradient Descent at the Edge of Stability.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    swing: Mapping[str, Tensor] | None = None
    label: str = "edge flow"

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("weight_decay", self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation of (c, au) started from θ0."""
        return self._equation(theta0).system(theta0, self.swing, 2)

    def oscillation(self, params: Mapping[str, Tensor], swing: Mapping[str, Tensor]) -> Oscillation:
        """Curvature, loss, sharpness and charges averaged over both sides of the oscillation about ``params``."""
        return self._equation(params).oscillation(params, swing)

    def _equation(self, params: Mapping[str, Tensor]) -> TwoEnded:
        return two_ended(self.loss, params, _growth, self.learning_rate, self.weight_decay)


@dataclass(frozen=True)
class EdgeRMSpropFlow:
    """c' = -R⁻¹(g₊ + g₋)/2,  ηu' = P⁻¹Hu - λu,  ηa'/a = log(λ - 1),  λ = uᵀHu,  uᵀPu = 1,  P = R/η,  R = √ν + eps.

    The edge flow of RMSprop, whose edge is λ = 2, with the average of squares ην' = (1-α)/α ((g₊² + g₋²)/2 - ν) beside
    it. On ½sx² it rests at √ν = ηs/2 with a²u² = η²/4. Parameters as in ``RodRMSpropFlow``. The source is for descent;
    the preconditioned form is this library's.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    smoothing: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    swing: Mapping[str, Tensor] | None = None
    squares: Mapping[str, Tensor] | None = None
    label: str = "edge flow of RMSprop"

    def __post_init__(self) -> None:
        require_rmsprop(self.learning_rate, self.smoothing, self.eps, self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation of (c, au, ν) started from θ0."""
        return self._equation(theta0).system(theta0, self.swing, 2)

    def oscillation(
        self, params: Mapping[str, Tensor], swing: Mapping[str, Tensor], squares: Mapping[str, Tensor]
    ) -> Oscillation:
        """Preconditioned curvature, loss and sharpness averaged over both sides of the oscillation."""
        return self._equation(params).oscillation(params, swing, squares)

    def _equation(self, params: Mapping[str, Tensor]) -> TwoEnded:
        averages = Averages(self.smoothing, self.eps, self.squares)
        return two_ended(self.loss, params, _growth, self.learning_rate, self.weight_decay, averages)
