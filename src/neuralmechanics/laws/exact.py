"""The exact discrete law: what torch's own arithmetic does to a charge, step by step."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.step import Drives, Hyperparameters


class ExactLaw(ChargeLaw):
    """The identity of theory 3.3 with one companion C = ⟨θ,v⟩ (translations: ⟨v,1_A⟩) a charge.

    With u = ρ + λX (ρ alone when decoupled) and x = βC + au = ⟨θ_k, v_{k+1}⟩:

        quadratic    X ← X - 2η(u + βx | x) - 2ηλX [decoupled] + W        C ← x + P
        translation  X ← X -  η(u + βx | x) -  ηλX [decoupled]            C ← x

    (Nesterov | heavy ball; plain SGD is β = 0). For heavy ball P = -W/η (+ ηλ(x + λX) decoupled) where P is not
    given. While β = 0 torch neither uses nor changes its buffer, so there C ← C + P; without P a quadratic
    charge that meets its old buffer again is NaN, never a guess. Likewise Nesterov given as a tensor without P.

    With ρ = 0 (`name` "exact") this is the prediction from symmetry alone; `measured_residual=True`
    (`name` "identity") reads ρ and must reproduce the charge to rounding. Where `holds` is False (Adam, clipping by
    value, uneven decay inside a family) the charge follows X ← X + 2⟨θ,d⟩ + W instead.

    Needs W when a charge is quadratic, P for Nesterov; ValueError otherwise. Source: theory.md 3.3.

    >>> law = ExactLaw()
    >>> law.start(torch.tensor([1.0], dtype=torch.float64))
    >>> law.step(Hyperparameters(0.1, 0.5), Drives(torch.tensor([0.0025], dtype=torch.float64)))
    >>> law.value  # the decay (1-ηλ)² of a norm
    tensor([0.9025], dtype=torch.float64)
    """

    memory = ("companion", "buffered")

    def __init__(
        self,
        quadratic: Bool[Tensor, " charges"] | None = None,
        *,
        measured_residual: bool = False,
        holds: Bool[Tensor, " charges"] | None = None,
    ) -> None:
        self.name = "identity" if measured_residual else "exact"
        self._measured = measured_residual
        self._holds = holds
        super().__init__(quadratic)

    @property
    def companion(self) -> Float64[Tensor, " charges"]:
        """C = ⟨θ,v⟩, for translations ⟨v,1_A⟩, as predicted now."""
        return self._state["companion"]

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`, with the companion of a buffer in use, or none."""
        zeros = torch.zeros_like(charge0, dtype=torch.float64)
        companion = zeros if companion0 is None else companion0.detach().to(zeros).clone()
        buffered = torch.full_like(zeros, companion0 is not None, dtype=torch.bool)
        self._state.start(charge0, companion=companion, buffered=buffered)

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        state = self._state
        X, C, quadratic, buffered = (state[k] for k in ("charge", "companion", "quadratic", "buffered"))
        c = self._state.coefficients(hyper)
        η, λ, β = c.learning_rate, c.weight_decay, c.momentum
        W = state.energy("update_energy", drives)
        P = state.velocity(drives, hyper.nesterov)
        coupled, apart = torch.where(c.decoupled, 0.0, λ), torch.where(c.decoupled, λ, 0.0)

        u = coupled * X
        if self._measured:
            u = u + state.drive("residual", drives)
        x = torch.where(c.restart, 0.0, β * C) + c.gain * u
        slope = torch.where(c.nesterov, u + β * x, torch.where(c.running, x, u)) + apart * X
        after = torch.where(quadratic, X - 2 * η * slope + W, X - η * slope)
        if P is None:
            heavy_ball = torch.where(η > 0, η * apart * (x + apart * X) - W / η, 0.0)
            moved = torch.where(c.nesterov, torch.nan, heavy_ball)
            idle = torch.where(buffered, torch.nan, 0.0)
        else:
            moved, idle = P, torch.where(buffered, P, 0.0)
        turning = x + torch.where(quadratic, moved, 0.0)
        resting = C + torch.where(quadratic, idle, 0.0)

        if self._holds is not None:
            after = torch.where(self._holds.to(X.device), after, self._from_update(X, W, drives))
        state.move(
            c.active,
            charge=after,
            companion=torch.where(c.running, turning, resting),
            buffered=buffered | c.running,
        )

    def _from_update(self, X: Tensor, W: Tensor, drives: Drives) -> Tensor:
        moved = self._state.drive("parameter_update", drives)
        return X + torch.where(self._state["quadratic"], 2 * moved + W, moved)
