"""The rod flow: two successive iterates as the ends of a rod, whose centre and half-length obey one equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.two_ended import Averages, Ends, TwoEnded, two_ended
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import System
from neuralmechanics.optimizers.hyperparameters.bounds import require_nonnegative, require_positive, require_rmsprop

__all__ = ["RodFlow", "RodRMSpropFlow"]


def _growth(objective: Objective, ends: Ends, learning_rate: float) -> Tensor:
    """ηv' = ηR⁻¹(g₊ - g₋)/2 - 2v."""
    # The map v ← η(g₊ - g₋)/2 - v as an increment: what it adds to v in one step.
    return learning_rate * ends.half / ends.divisor - 2 * ends.swing


@dataclass(frozen=True)
class RodFlow:
    """w' = -(g₊ + g₋)/2,  v' = (g₊ - g₋)/2 - (2/η)v,  g± = ∇J(w ± v): descent as a rod w ± v that moves and stretches.

    Of two successive iterates the centre w = (w_k + w_{k+1})/2 and the half-difference v = ±(w_{k+1} - w_k)/2, which
    changes sign each step and is turned back, obey w ← w - η(g₊ + g₋)/2 and v ← η(g₊ - g₋)/2 - v exactly: Euler's
    method with step η is descent itself. As an equation, the swing along an eigenvector grows at the rate λ - 2/η:
    below the edge it dies out, which leaves gradient flow; above it grows until the mean of the two gradients, -∇L less
    ½∇(vᵀHv) and all even terms further on, has pushed the sharpness back. So it follows training through each cycle,
    with as many directions as v is made of. A valley that flattens, λ - x², stops it at v² = λ - 2/η, where descent's
    own cycle of two steps is.

    θ0 is an iterate, and the rod at time 0 reaches to the next one; with ``swing``, v there, θ0 is the centre. The path
    holds w, and v beside it: ``flow.oscillation(path.at(k), **path.beside(k))``. Time is η a step. Two gradients an
    evaluation. Source: Regis, Chewi 2026, Rod Flow: A Continuous-Time Model for Gradient Descent at the Edge of
    Stability, here for the rod itself, v with its sign turned back, rather than for vvᵀ.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    swing: Mapping[str, Tensor] | None = None
    label: str = "rod flow"

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("weight_decay", self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation of (w, v) started from θ0."""
        return self._equation(theta0).system(theta0, self.swing, 1)

    def oscillation(self, params: Mapping[str, Tensor], swing: Mapping[str, Tensor]) -> Oscillation:
        """Curvature, loss, sharpness and charges averaged over the two ends of the rod about ``params``."""
        return self._equation(params).oscillation(params, swing)

    def _equation(self, params: Mapping[str, Tensor]) -> TwoEnded:
        return two_ended(self.loss, params, _growth, self.learning_rate, self.weight_decay)


@dataclass(frozen=True)
class RodRMSpropFlow:
    """w' = -R⁻¹(g₊ + g₋)/2,  v' = R⁻¹(g₊ - g₋)/2 - (2/η)v,  ην' = (1-α)/α ((g₊² + g₋²)/2 - ν),  R = √ν + eps.

    The rod flow of RMSprop. The average of squares is smooth and counts both ends, so a swing lifts ν and lowers the
    curvature R⁻¹H as well as it flattens the valley. On ½sx² it rests at √ν = ηs/2 with v² = η²/4.

    ``smoothing`` is torch's alpha, ``squares`` is ν before the first step, such as an optimiser's ``square_avg``, or
    with ``swing`` that at the centre; without it ν starts where it would rest. Source: Regis, Chewi 2026, A Rod Flow
    Model for Adam at the Edge of Stability.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    smoothing: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    swing: Mapping[str, Tensor] | None = None
    squares: Mapping[str, Tensor] | None = None
    label: str = "rod flow of RMSprop"

    def __post_init__(self) -> None:
        require_rmsprop(self.learning_rate, self.smoothing, self.eps, self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation of (w, v, ν) started from θ0."""
        return self._equation(theta0).system(theta0, self.swing, 1)

    def oscillation(
        self, params: Mapping[str, Tensor], swing: Mapping[str, Tensor], squares: Mapping[str, Tensor]
    ) -> Oscillation:
        """Preconditioned curvature, loss and sharpness averaged over the two ends of the rod about ``params``."""
        return self._equation(params).oscillation(params, swing, squares)

    def _equation(self, params: Mapping[str, Tensor]) -> TwoEnded:
        averages = Averages(self.smoothing, self.eps, self.squares)
        return two_ended(self.loss, params, _growth, self.learning_rate, self.weight_decay, averages)
