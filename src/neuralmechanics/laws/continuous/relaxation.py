"""The laws that are first-order in time: every charge relaxes at one rate, x' = -rx + f."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.coefficients import Coefficients
from neuralmechanics.laws.continuous.oscillator import growth
from neuralmechanics.laws.state import require_start
from neuralmechanics.laws.step import Drives, Hyperparameters


class GradientFlowLaw(ChargeLaw):
    """Gradient flow (1-β)θ' = -(g + λθ): the charge with weight decay alone, x ← e^{-pλh/(1-β)} x.

    p = 2 for quadratic charges, 1 for translations; h = aη is the natural time step (a = 1 on torch's first step).
    Decoupled decay: e^{-pηλ}. Needs no drive. Source: theory.md 2.1, 3.1; paper, section 5.

    >>> law = GradientFlowLaw()
    >>> law.start(torch.ones(1, dtype=torch.float64))
    >>> law.step(Hyperparameters(0.1, weight_decay=0.5, momentum=0.9), Drives())
    >>> law.value  # e^{-2·0.5·0.1/0.1}
    tensor([0.3679], dtype=torch.float64)
    """

    name = "gradient_flow"
    _way: tuple[Coefficients, Tensor] | None = None

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        X = self._state["charge"]
        c = self._state.coefficients(hyper)
        if self._way is None or self._way[0] is not c:
            self._way = c, torch.exp(-_decay(c, self._state["quadratic"]))
        self._state.move(c.moving, charge=X * self._way[1])


class ModifiedLossLaw(ChargeLaw):
    """Flow on the modified loss L̃ = L + λ|θ|²/2 + c|∇(…)|², (1-β)θ' = -∇L̃, driven by the raw gradient.

        (1-β)X' = -p(λ + 2cλ²)X + 4c⟨g,g⟩ (translations: no drive),  c = h(1+β)/(4(1-β)²)

    Nesterov: c = h(1-β+2β²)/(4(1-β)²). Decoupled: decay p(ηλ + (ηλ)²/2) a step. Each step is integrated exactly
    with ⟨g,g⟩ held. Needs `gradient_energy` when a charge is quadratic. It cannot oscillate, and it takes
    |g|²/(1-β)² for |v|²: with momentum and minibatches expect it to be far off. Source: theory.md 2.3, 3.1.
    """

    name = "modified_loss"
    _way: tuple[Coefficients, Tensor, Tensor] | None = None

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        c = self._state.coefficients(hyper)
        if self._way is None or self._way[0] is not c:
            self._way = c, *self._factors(c)
        _, kept, gain = self._way
        gained = gain * self._state.energy("gradient_energy", drives)
        self._state.move(c.moving, charge=self._state["charge"] * kept + gained)

    def _factors(self, c: Coefficients) -> tuple[Tensor, Tensor]:
        """What one step keeps of a charge, and what it gains of ⟨g,g⟩."""
        quadratic = self._state["quadratic"]
        β, μ, λ = c.momentum, 1 - c.momentum, c.weight_decay
        h, apart = c.gain * c.learning_rate, c.learning_rate * λ
        curvature = c.learning_rate * (1 - c.dampening) * torch.where(c.nesterov, μ + 2 * β * β, 1 + β) / (4 * μ * μ)
        rate = torch.where(c.decoupled, apart + apart * apart / 2, (λ + 2 * curvature * λ * λ) * h / μ)
        decay = (1 + quadratic.to(torch.float64)) * rate
        # ∫₀¹ e^{-z(1-s)} ds = φ₁(-z): what is gained early in the step decays for the rest of it.
        return torch.exp(-decay), 4 * curvature * h / μ * growth(-decay)


class FirstOrderLaw(ChargeLaw):
    """The paper's headline integral, for β = 0, driven by the raw minibatch gradient:

        q(t) = e^{-λt} q(0)      X(t) = e^{-2λt} X(0) + η ∫ e^{-2λ(t-s)} ⟨g,g⟩ ds

    Each step is integrated exactly with ⟨g,g⟩ held, schedules of η and λ included. Where a step has β ≠ 0 the
    law does not hold: from then on `holds` is False there and the value NaN. Needs `gradient_energy`
    when a charge is quadratic. Source: theory.md 3.1; paper, theorem 2 and equations 15-17.
    """

    name = "first_order"
    memory = ("holds",)

    @property
    def holds(self) -> Bool[Tensor, " charges"]:
        """True while every step of the charge had β = 0."""
        return self._state["holds"]

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`; the companion plays no part."""
        require_start(charge0)
        self._state.start(charge0, holds=torch.ones_like(charge0, dtype=torch.bool))

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        X = self._state["charge"]
        c = self._state.coefficients(hyper)
        decay = _decay(c, self._state["quadratic"])
        # One η stands before the integral, the other is the length of the step.
        gained = c.learning_rate.square() * self._state.energy("gradient_energy", drives)
        holds = self._state["holds"] & ~c.running
        after = torch.where(holds, X * torch.exp(-decay) + gained * growth(-decay), torch.nan)
        self._state.move(c.moving, charge=after, holds=holds)


def _decay(c: Coefficients, quadratic: Tensor) -> Tensor:
    """The exponent a flow decays by in one step: pλh/(1-β), pηλ when decoupled."""
    # Coupled decay is a gradient, of which momentum makes 1/(1-β) in the end; decoupled decay acts once, beside it.
    lasting = torch.where(c.decoupled, 1.0, c.gain / (1 - c.momentum))
    return (1 + quadratic.to(torch.float64)) * c.learning_rate * c.weight_decay * lasting
