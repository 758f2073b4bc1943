"""From hyperparameters to the oscillator that a charge is under the modified flow, in units of one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.coefficients import Coefficients


@dataclass(frozen=True)
class StepOscillator:
    """ẍ + 2Γẋ + Ω²x = F, time counted in steps, and how the momentum buffer sets the slope ẋ = ησ:

        (1+β)σ = -offset·x - 4·memory·C,    C = ⟨θ,v⟩, memory = b (translations ⟨v,1_A⟩, and half the memory)

    `damping` Γ, `stiffness` Ω²/η (finite where η = 0), `kick` what torch's undampened first step adds to -offset.
    """

    damping: Float64[Tensor, " *charges"]
    stiffness: Float64[Tensor, " *charges"]
    inertia: Float64[Tensor, " *charges"]  # 1+β
    offset: Float64[Tensor, " *charges"]
    memory: Float64[Tensor, " *charges"]
    kick: Float64[Tensor, " *charges"]

    def slope(self, x: Tensor, companion: Tensor) -> Tensor:
        """σ from the charge and its companion."""
        return -(self.offset * x + 4 * self.memory * companion) / self.inertia

    def companion(self, x: Tensor, slope: Tensor) -> Tensor:
        """C from the charge and σ; 0 where the buffer takes no part."""
        idle = self.memory == 0
        return torch.where(
            idle, 0.0, -(self.inertia * slope + self.offset * x) / torch.where(idle, 1.0, 4 * self.memory)
        )


def step_oscillator(c: Coefficients, quadratic: Bool[Tensor, " charges"]) -> StepOscillator:
    """The modified flow (h/2)(1+β)θ'' + (1-β)θ' = -G (Nesterov: -G - hβG') read along a symmetry.

    Multiplying by θ (or 1_A) and using ⟨g,ξ⟩ = 0 gives m x'' + Bx' + Kx = drive, m = h(1+β)/2 and, p = 2 | 1,

        coupled     B = 1-β [+ pβhλ Nesterov]                     K = pλ
        decoupled   B = 1-β + βηλ [+ (p-1)βhλ Nesterov]           K = p(1-β)ηλ/h

    The slope that makes the smooth path meet the discrete one after the transient has died is
    (1+β)θ' = -cG - 2bv/(1-α), b = β, c = 1 (Nesterov: β², 1+2β), G decoupled from λ when the decay is: that
    v moves the parameters by ηbv/(1-β) in all fixes b, a constant G fixes c. Source: theory.md 2.4, 3.2.
    """
    η, λ, β, α = c.learning_rate, c.weight_decay, c.momentum, c.dampening
    h, p = η * (1 - α), 1 + quadratic.to(torch.float64)
    apart = c.decoupled.to(torch.float64)
    B = 1 - β + apart * β * η * λ + torch.where(c.nesterov, (p - apart) * β * h * λ, 0.0)
    ahead = torch.where(c.nesterov, 1 + 2 * β, 1.0)
    memory = torch.where(c.nesterov, β * β, β)
    # In steps: Γ = Bh/(2m) and Ω² = Kh²/m, the latter over η so that a schedule may set η to 0.
    return StepOscillator(
        damping=B / (1 + β),
        stiffness=2 * p * λ * (1 - torch.where(c.decoupled, β, α)) / (1 + β),
        inertia=1 + β,
        offset=p * λ * torch.where(c.decoupled, 1 + β, ahead * (1 - α)),
        memory=p / 2 * memory,
        kick=torch.where(c.decoupled, 0.0, 2 * p * α * λ),
    )
