"""The damped driven oscillator x'' + 2γx' + ω²x = f, solved without overflow or cancellation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor


def growth(rate: Float64[Tensor, " *shape"]) -> Float64[Tensor, " *shape"]:
    """φ₁(z) = (e^z - 1)/z, 1 at z = 0.

    >>> growth(torch.tensor([0.0, 1.0], dtype=torch.float64))
    tensor([1.0000, 1.7183], dtype=torch.float64)
    """
    return torch.where(rate == 0, 1.0, torch.expm1(rate) / torch.where(rate == 0, 1.0, rate))


@dataclass(frozen=True)
class Modes:
    """The solutions of the oscillator after a time t, damping included.

    `cosine` e^{-γt}·(cosh κt | 1 | cos st),  `sine` e^{-γt}·(sinh(κt)/κ | t | sin(st)/s),
    `response` ∫₀ᵗ sine, the answer to f = 1 from rest.
    """

    damping: Float64[Tensor, " *shape"]
    frequency_squared: Float64[Tensor, " *shape"]
    cosine: Float64[Tensor, " *shape"]
    sine: Float64[Tensor, " *shape"]
    response: Float64[Tensor, " *shape"]

    def position(self, x: Tensor, slope: Tensor, force: Tensor) -> Tensor:
        """x(t) from x(0), x'(0) and a force constant over the time."""
        return self.cosine * x + self.sine * (slope + self.damping * x) + self.response * force


def modes(
    damping: Float64[Tensor, " *shape"],
    frequency_squared: Float64[Tensor, " *shape"],
    time: Float64[Tensor, " *shape"],
) -> Modes:
    """The modes after `time` in all three regimes, elementwise; smooth across κ² = γ² - ω² = 0. Broadcasts.

    Overdamped, everything is written with the decaying exponents a± = -γ ± κ, the slow one as
    a₊ = -ω²/(γ+κ), so that neither e^{κt} overflows nor γ - κ cancels. Source: theory.md 3.2.

    >>> m = modes(*torch.tensor([[3.0], [5.0], [1e6]], dtype=torch.float64))  # overdamped, for ever
    >>> m.sine, m.response  # at rest where force and spring balance, x = f/ω²
    (tensor([0.], dtype=torch.float64), tensor([0.2000], dtype=torch.float64))
    """
    γ, ω2, t = damping, frequency_squared, time
    discriminant = γ * γ - ω2
    over = discriminant > 0
    # `where` computes both branches: each root is given a zero where the other regime holds.
    κ = torch.sqrt(torch.where(over, discriminant, 0.0))
    s = torch.sqrt(torch.where(over, 0.0, -discriminant))

    pole = torch.where(over & (γ + κ > 0), γ + κ, 1.0)
    slow = torch.exp(torch.where(over, -ω2 / pole, -γ) * t)  # e^{a₊t}, or e^{-γt}
    fall = -torch.expm1(-κ * t)  # 1 - e^{-κt}
    cosine = slow * torch.where(over, 1 - fall + fall * fall / 2, torch.cos(s * t))
    sine = slow * t * torch.where(over, growth(-2 * κ * t), torch.sinc(s * t / torch.pi))
    # 1 - cosine, rid of its cancellation: e^{-γt}·2sinh²(κt/2) = e^{a₊t}(1-e^{-κt})²/2
    missing = -torch.expm1(-γ * t) - slow * torch.where(over, fall * fall / 2, -2 * torch.sin(s * t / 2).square())
    near = (missing - γ * sine) / torch.where(ω2 == 0, 1.0, ω2)
    split = over & (2 * κ > γ)  # roots far apart: the difference of two relaxations does not cancel
    far = t * (growth(-ω2 / pole * t) - growth(-(γ + κ) * t)) / torch.where(split, 2 * κ, 1.0)
    response = torch.where(split, far, near)
    brief = (γ * t <= 0.1) & (ω2.abs() * t * t <= 0.01)  # there both forms lose digits as 1/(γt)
    return Modes(γ, ω2, cosine, sine, torch.where(brief, _brief_response(γ * t, ω2 * t * t) * t * t, response))


def _brief_response(damping: Tensor, frequency_squared: Tensor) -> Tensor:
    """Σ hₙ/(n+2)!, hₙ = -2γhₙ₋₁ - ω²hₙ₋₂: the power series of the response at t = 1, to rounding for γ, ω <= 0.1."""
    before, term, total, factorial = torch.zeros_like(damping), torch.ones_like(damping), 0.5 + 0 * damping, 2.0
    # |hₙ| is at most about (n + 1) · 0.24ⁿ for such γ and ω², so that the twelfth term is below 1e-17.
    for n in range(1, 13):
        before, term = term, -2 * damping * term - frequency_squared * before
        factorial *= n + 2
        total = total + term / factorial
    return total
