"""The modified flow of a charge: the paper's oscillator, propagated exactly from step to step."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.coefficients import Coefficients
from neuralmechanics.laws.continuous.normal_form import StepOscillator, step_oscillator
from neuralmechanics.laws.continuous.oscillator import Modes, modes
from neuralmechanics.laws.state import require_start
from neuralmechanics.laws.step import Drives, Hyperparameters


class ModifiedFlowLaw(ChargeLaw):
    """m x'' + (1-β)x' + pλx = 2m|θ'|², m = h(1+β)/2, by the exact one-step propagator of (x, x').

    All three regimes, Nesterov and decoupled decay included; the drive |θ'|² = W/h² is held during a step. The
    initial slope is the one that matches the discrete path (x'(0) = -2λx/(1+β) for a norm), and when β, α, λ
    or the mode change, or torch restarts its buffer, the slope is read anew from the buffer's companion C,
    which those changes leave alone; a change of η alone leaves the slope in natural time t = Σh alone.
    Needs W when a charge is quadratic, P for Nesterov (tensor flags without P: NaN there); ValueError otherwise.
    NaN where Nesterov meets dampening, which torch refuses. Source: theory.md 2.4, 3.2.

    >>> law = ModifiedFlowLaw()
    >>> law.start(torch.ones(1, dtype=torch.float64))
    >>> for _ in range(100):
    ...     law.step(Hyperparameters(0.1, 1e-3, 0.9), Drives(torch.zeros(1, dtype=torch.float64)))
    >>> law.value  # exp(-2·1e-3·0.1·100/0.1) = 0.8187, and the transient
    tensor([0.8311], dtype=torch.float64)
    """

    name = "modified_flow"
    memory = ("slope", "companion", "inertia", "offset", "memory", "begun")

    def __init__(self, quadratic: Bool[Tensor, " charges"] | None = None) -> None:
        super().__init__(quadratic)
        self._way: tuple[Coefficients, StepOscillator, Modes] | None = None

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`, with the companion of a buffer in use, or none."""
        require_start(charge0, companion0)
        zeros = torch.zeros_like(charge0, dtype=torch.float64)
        companion = zeros if companion0 is None else companion0.detach().to(zeros).clone()
        memory = dict.fromkeys(self.memory, zeros) | {"begun": zeros.bool(), "companion": companion}
        self._state.start(charge0, **memory)

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        state = self._state
        X = state["charge"]
        c = state.coefficients(hyper)
        η = c.learning_rate
        if self._way is None or self._way[0] is not c:
            now = step_oscillator(c, state["quadratic"])
            self._way = (c, now, modes(now.damping, η * now.stiffness, torch.ones_like(η)))
            steady = False
        else:
            steady = hyper.first_step is False  # the very step as before: no slope to read anew
        _, now, path = self._way
        P = state.velocity(drives, hyper.nesterov)
        # 2m|θ'|² over m, with |θ'|² = W/h² and time counted in steps: h drops out.
        force = 2 * state.energy("update_energy", drives)
        if hyper.nesterov is not False:
            force = force + torch.where(c.nesterov, self._look_ahead(c, force / 2, P), 0.0)
        companion, slope = (state["companion"], state["slope"]) if steady else self._slope(c, now)
        after = path.position(X, η * slope, force)
        # the velocity over η, whose limit at η = 0 is the buffer's own decay while nothing moves
        pull = torch.where(η > 0, force / η, 0.0) - now.stiffness * X
        ending = (path.cosine - now.damping * path.sine) * slope + path.sine * pull
        state.move(
            c.moving,
            charge=after,
            slope=ending,
            companion=companion if P is None else torch.where(c.running, companion, companion + P),
        )
        if not steady:
            shaped = {name: getattr(now, name).expand_as(X) for name in ("inertia", "offset", "memory")}
            state.move(c.moving, begun=torch.ones_like(state["begun"]), **shaped)

    def _look_ahead(self, c: Coefficients, W: Tensor, P: Tensor | None) -> Tensor:
        """-2hβ⟨θ,G'⟩ past its part in B: (4β/(1+β))h⟨d,G⟩, where d = -η(G + βv)."""
        if P is None:
            P = torch.where(self._state["quadratic"], torch.nan, 0.0)
        η, β = c.learning_rate, c.momentum
        ahead = -4 * β / (1 + β) * (W + η * β * P)
        return torch.where(c.dampening == 0, ahead, torch.nan)

    def _slope(self, c: Coefficients, now: StepOscillator) -> tuple[Tensor, Tensor]:
        """The companion kept for when momentum returns, and the slope σ that this step begins with."""
        X, kept, slope, begun = (self._state[name] for name in ("charge", "companion", "slope", "begun"))
        inertia, offset, memory = (self._state[name] for name in ("inertia", "offset", "memory"))
        nothing = torch.zeros_like(X)
        # With what the step before was made of: under these the slope was kept.
        past = StepOscillator(nothing, nothing, inertia, offset, memory, nothing)
        companion = torch.where(memory > 0, past.companion(X, slope), kept)
        companion = torch.where(c.restart, 0.0, companion)
        # To the bit: equal numbers make equal coefficients; η is in none of these, so a schedule of η leaves σ alone.
        same = begun & (inertia == now.inertia) & (offset == now.offset) & (memory == now.memory) & ~c.restart
        anew = now.slope(X, companion) - torch.where(c.restart, now.kick * X / now.inertia, 0.0)
        return companion, torch.where(same, slope, anew)
