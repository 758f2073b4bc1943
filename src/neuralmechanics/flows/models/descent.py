"""The hyperparameters of descent as the flows read them: heavy ball or Nesterov, with coupled weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Descent", "require_fraction", "require_nonnegative", "require_positive"]


def require_positive(name: str, value: float) -> None:
    """Refuse anything but a finite positive number."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a finite number above 0")


def require_nonnegative(name: str, value: float) -> None:
    """Refuse anything but a finite number of at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}, expected a finite number, 0 or more")


def require_fraction(name: str, value: float) -> None:
    """Refuse anything outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 <= {name} < 1")


@dataclass(frozen=True)
class Descent:
    """θ ← θ - ηv, v ← βv + (1-α)G as ``torch.optim.SGD`` takes it; with Nesterov θ ← θ - η(G + βv).

    The first step of torch uses v = G whatever α, and β = 0 switches α off.
    """

    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("weight_decay", self.weight_decay)
        require_fraction("momentum", self.momentum)
        require_fraction("dampening", self.dampening)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"nesterov=True with momentum={self.momentum}, dampening={self.dampening}: "
                "it needs momentum > 0 and dampening = 0, as in torch"
            )

    @property
    def time_step(self) -> float:
        """Natural time h = η(1-α) of one step; η when β = 0."""
        return self.learning_rate * (1 - self.dampening if self.momentum else 1.0)

    @property
    def first_step(self) -> float:
        """c in θ_1 - θ_0 = -c h G_0: 1/(1-α) for heavy ball, 1 + β for Nesterov."""
        if self.nesterov:
            return 1 + self.momentum
        return 1 / (1 - self.dampening) if self.momentum else 1.0

    @property
    def transient_shift(self) -> float:
        """c in θ̃_0 = θ_0 + c h G_0, the start from which the motion without the initial layer is shadowed.

        The layer's displacements θ_1-θ_0 + hG/(1-β) decay like β^k, so they sum to their first over 1-β.
        """
        return (1 / (1 - self.momentum) - self.first_step) / (1 - self.momentum)

    @property
    def loss_correction(self) -> float:
        """c in L̃ = J + c|∇J|²: h(1+β)/(4(1-β)²), for Nesterov h(1-β+2β²)/(4(1-β)²)."""
        beta = self.momentum
        numerator = 1 - beta + 2 * beta**2 if self.nesterov else 1 + beta
        return self.time_step * numerator / (4 * (1 - beta) ** 2)

    @property
    def initial_speed(self) -> float:
        """c in θ'(0) = -c G_0 for the second-order flow: the one whose initial layer moves θ as far as torch's.

        The layer of m θ'' + μθ' = -G displaces by (θ'(0) + G/μ) m/μ. Equal displacements give
        c = (2·first_step - 1)/(1+β): 1/(1+β) heavy ball, (1+2β)/(1+β) Nesterov, (1+α)/((1-α)(1+β)) with dampening.
        """
        return (2 * self.first_step - 1) / (1 + self.momentum)
