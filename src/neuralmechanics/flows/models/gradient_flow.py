"""Gradient flow, plain and with the friction of momentum: the limit of vanishing learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.optimizers.hyperparameters.bounds import require_fraction, require_nonnegative

__all__ = ["GradientFlow", "MomentumFlow"]


@dataclass(frozen=True)
class GradientFlow:
    """θ' = -(g + λθ): every charge of an exact symmetry is conserved at λ = 0.

    Descent at learning rate η follows it with error O(η). ``time_step`` is only a hint for integrators.
    """

    loss: Loss
    _: KW_ONLY
    weight_decay: float = 0.0
    time_step: float | None = None
    label: str = "gradient flow"

    def __post_init__(self) -> None:
        require_nonnegative("weight_decay", self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        return _scaled_gradient_flow(self.loss, theta0, self.weight_decay, 1.0, self.time_step)


@dataclass(frozen=True)
class MomentumFlow:
    """(1-β)θ' = -(g + λθ): gradient flow on the clock of momentum, t = Σ η(1-α)."""

    loss: Loss
    _: KW_ONLY
    momentum: float
    weight_decay: float = 0.0
    time_step: float | None = None
    label: str = "gradient flow with momentum"

    def __post_init__(self) -> None:
        require_fraction("momentum", self.momentum)
        require_nonnegative("weight_decay", self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        return _scaled_gradient_flow(self.loss, theta0, self.weight_decay, 1 / (1 - self.momentum), self.time_step)


def _scaled_gradient_flow(
    loss: Loss, theta0: Mapping[str, Tensor], weight_decay: float, speed: float, time_step: float | None
) -> System:
    layout = Layout.of(theta0)
    objective = Objective(loss, layout, weight_decay)
    return System(layout, layout.flatten(theta0), steady(lambda x: -speed * objective.gradient(x)), time_step)
