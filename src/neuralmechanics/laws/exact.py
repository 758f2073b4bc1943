"""The exact discrete law: what torch's own arithmetic does to a charge, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.coefficients import Coefficients, Numbers
from neuralmechanics.laws.state import everywhere, require_start
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

    Where decay is strong (`decay_strength` above 1) measured W and P would make the recursion feed its rounding
    back and grow, so V = |v|² is carried as a third state, and W and P follow from it (theory.md 3.3b):

        V ← β²V + 2a(S + βλC) + a²(λ²X - |g|²),  S = ⟨v,g⟩ after the step;  s = G + βv | v | G,  d = -ηs (- ηλθ)

    with |G|² = |g|² + λ(u + ρ) and ⟨G,v⟩ = S + λx. That is stable wherever the training is. A step that finds V
    unknown takes it from `velocity_energy`; without the drives the charge is NaN there.

    Where λ is nan, λX is read from `decay`. Parts of a charge may differ in λ (no decay on norms and biases): ρ still
    cancels between them, and the law is as exact with their |θ_p|² measured. Or the charge is |θ + c|² while decay
    pulls θ: then `decay` is λ⟨θ, θ + c⟩. Decay that is decoupled needs P there, too.

    Where the parts differ in η too, C = Σ r⟨θ_p,v_p⟩ with r = η_p/η, and their ρ_p no longer cancel:
    u = Σ r(λ_p|θ_p|² + ρ_p) is read from `rated_pull`, P = Σ r⟨d_p,v_p⟩ from `rated_velocity` (heavy ball: -W/η), and C
    from `rated_companion` at a step where the r are others than before.

    Needs W when a charge is quadratic, P for Nesterov; ValueError otherwise. Source: theory.md 3.3, 3.3b.

    >>> law = ExactLaw()
    >>> law.start(torch.tensor([1.0], dtype=torch.float64))
    >>> law.step(Hyperparameters(0.1, 0.5), Drives(torch.tensor([0.0025], dtype=torch.float64)))
    >>> law.value  # the decay (1-ηλ)² of a norm
    tensor([0.9025], dtype=torch.float64)
    """

    memory = ("companion", "buffered", "speed")

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
        self._speed_known = True
        self._buffers: bool | None = None  # whether momentum is kept, the same for all charges; None: not known
        super().__init__(quadratic)

    @property
    def companion(self) -> Float64[Tensor, " charges"]:
        """C = ⟨θ,v⟩, for translations ⟨v,1_A⟩, as predicted now."""
        return self._state["companion"]

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`, with the companion of a buffer in use, or none."""
        require_start(charge0, companion0)
        zeros = torch.zeros_like(charge0, dtype=torch.float64)
        companion = zeros if companion0 is None else companion0.detach().to(zeros).clone()
        buffered = everywhere(companion0 is not None, zeros)
        speed = everywhere(0.0 if companion0 is None else torch.nan, zeros)
        self._state.start(charge0, companion=companion, buffered=buffered, speed=speed)
        self._speed_known = True
        self._buffers = companion0 is not None

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        super().load_state_dict(state)
        self._speed_known = True
        self._buffers = None

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        state = self._state
        c = self._state.coefficients(hyper)
        # Most steps of most trainings are ordinary: a few kernels then do what takes dozens of masks in general.
        if c.numbers is not None and c.strong is None and self._is_ordinary(c.numbers, drives):
            self._ordinary_step(c, c.numbers, drives)
            return
        self._buffers = None
        X, C, quadratic, buffered = (state[k] for k in ("charge", "companion", "quadratic", "buffered"))
        η, λ, β = c.learning_rate, c.weight_decay, c.momentum
        W = state.energy("update_energy", drives)
        P = state.velocity(drives, hyper.nesterov)
        # Coupled decay enters the gradient, and so the buffer; decoupled decay acts beside both.
        coupled, apart = torch.where(c.decoupled, 0.0, λ), torch.where(c.decoupled, λ, 0.0)

        ρ = state.drive("residual", drives) if self._measured else 0.0
        u = self._pull(coupled, drives) + ρ
        pull = self._pull(apart, drives)
        if drives.rated_pull is not None or drives.rated_companion is not None:
            u, C, P = self._rated(c, drives, u, C, P)
        # The step that creates the buffer knows no older one: v = G, whatever C was.
        x = torch.where(c.restart, 0.0, β * C) + c.gain * u
        # ⟨θ,s⟩ of the direction s that is stepped along: G + βv, v, or G.
        along = torch.where(c.nesterov, u + β * x, torch.where(c.running, x, u))
        carried = self._carry(c, drives, u + ρ, x, along)
        if carried is not None:
            used, energy, turn = carried
            W = torch.where(used, energy, W)
        slope = along + pull
        # |θ + d|² = X + 2⟨θ,d⟩ + W with ⟨θ,d⟩ = -η⟨θ,s⟩; a sum has no term of second order.
        after = torch.where(quadratic, X - 2 * η * slope + W, X - η * slope)
        # P = ⟨d,v⟩ follows from W where d is -ηv with decay beside it; of Nesterov's G + βv it does not.
        if P is None:
            heavy_ball = torch.where(η > 0, η * apart * (x + pull) - W / η, 0.0)
            moved = torch.where(c.nesterov, torch.nan, heavy_ball)
            idle = torch.where(buffered, torch.nan, 0.0)
        else:
            moved, idle = P, torch.where(buffered, P, 0.0)
        if carried is not None:
            moved = torch.where(used, turn, moved)
        turning = x + torch.where(quadratic, moved, 0.0)
        resting = C + torch.where(quadratic, idle, 0.0)

        if self._holds is not None:
            after = torch.where(self._holds.to(X.device), after, self._from_update(X, W, drives))
        state.move(
            c.moving,
            charge=after,
            companion=torch.where(c.running, turning, resting),
            buffered=buffered | c.running,
        )

    def _is_ordinary(self, n: Numbers, drives: Drives) -> bool:
        """Whether a step is the commonest: coupled decay, no Nesterov, no buffer that lies idle, no further drives."""
        further = (drives.update_velocity, drives.velocity_energy, drives.decay, drives.rated_companion, self._holds)
        plain = n.momentum != 0 or self._buffers is False
        return plain and not (n.nesterov or n.decoupled) and all(each is None for each in further)

    def _ordinary_step(self, c: Coefficients, n: Numbers, drives: Drives) -> None:
        """The same for numbers that all charges share: x = βC + a(λX + ρ), X ← X - pηx + W, C ← x - W/η."""
        state, η = self._state, n.learning_rate
        X, W = state["charge"], state.energy("update_energy", drives)
        x = X * (n.gain * n.weight_decay)
        if self._measured:
            x = x.add_(state.drive("residual", drives), alpha=n.gain)
        if n.momentum != 0 and not n.restart:
            x = x.add_(state["companion"], alpha=n.momentum)
        # Ordinary steps do not carry |v|²: what was known of it is out of date.
        if self._speed_known:
            state.move(None, speed=everywhere(torch.nan, X))
            self._speed_known = False
        after = torch.addcmul(X, x, state.degree, value=-η).add_(W)
        if n.momentum == 0:
            state.move(c.moving, charge=after)
            return
        if self._buffers is not True:
            state.move(c.moving, buffered=everywhere(True, X))
            self._buffers = True if n.active else None
        state.move(c.moving, charge=after, companion=torch.add(x, W, alpha=-1 / η) if η > 0 else x)

    def _pull(self, decay: Tensor, drives: Drives) -> Tensor:
        """λX; where parts of a charge differ in λ, Σ s_p λ_p |θ_p|² as it was measured."""
        pull = decay * self._state["charge"]
        return (
            pull if drives.decay is None else torch.where(torch.isnan(decay), self._state.drive("decay", drives), pull)
        )

    def _rated(
        self, c: Coefficients, drives: Drives, u: Tensor, C: Tensor, P: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """u, C and P where the parts of a charge differ in η, in units of the charge's own η; 0 where all η are."""
        η = c.learning_rate

        def instead(name: str, value: Tensor) -> Tensor:
            measured = self._state.optional(name, drives)
            return torch.where(torch.isnan(measured), value, torch.where(η > 0, measured / η, 0.0))

        return (
            instead("rated_pull", u),
            instead("rated_companion", C),
            None if P is None else torch.where(self._state["quadratic"], instead("rated_velocity", P), 0.0),
        )

    def _carry(
        self, c: Coefficients, drives: Drives, pull: Tensor, x: Tensor, along: Tensor
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Carries V = |v|² over the step. Returns where decay is strong, and W and P there; None when nowhere.

        `pull` = u + ρ, `x` = ⟨θ,v⟩ and `along` = ⟨θ,s⟩ of the step. All at quadratic charges alone.
        """
        state = self._state
        found = state.optional("velocity_energy", drives)
        if c.strong is None or not state.any_quadratic:
            if self._speed_known or drives.velocity_energy is not None:
                state.move(None, speed=found)
                self._speed_known = drives.velocity_energy is not None
            return None
        X, V = state["charge"], state["speed"]
        C = torch.where(c.restart, 0.0, state["companion"])
        η, β, a = c.learning_rate, c.momentum, c.gain
        λ, apart = (torch.where(mask, 0.0, c.weight_decay) for mask in (c.decoupled, ~c.decoupled))
        g2, S = state.optional("gradient_energy", drives), state.optional("velocity_gradient", drives)
        old = torch.where(c.restart, 0.0, V)
        # Theory 3.3b has ⟨v,g⟩ of the old v; with S of the new one, β⟨v,g⟩ = S - a(|g|² + λρ), ρ drops out.
        new = β.square() * old + 2 * a * (S + β * λ * C) + a.square() * (λ.square() * X - g2)
        G2, Gv = g2 + λ * pull, S + λ * x
        s2 = torch.where(c.nesterov, G2 + 2 * β * Gv + β.square() * new, torch.where(c.running, new, G2))
        # |d|² of d = -η(s + λθ), multiplied out; λ here is that of decoupled decay.
        energy = η.square() * (s2 + apart * (2 * along + apart * X))
        # ⟨d,v⟩ of the same d, with v after the step.
        turn = -η * (torch.where(c.nesterov, Gv + β * new, new) + apart * x)
        # A step that finds V unknown and its drives given still uses the measured W, and V begins after it.
        # Without the drives V is NaN, and the charge with it.
        begun = ~torch.isnan(old) | ~c.running | torch.isnan(torch.where(c.running, S, 0.0) + g2)
        used = c.strong & state["quadratic"] & begun
        speed = torch.where(c.running, torch.where(used, new, found), torch.where(torch.isnan(V), found, V))
        state.move(c.moving, speed=speed)
        self._speed_known = True
        return used, energy, turn

    def _from_update(self, X: Tensor, W: Tensor, drives: Drives) -> Tensor:
        moved = self._state.drive("parameter_update", drives)
        return X + torch.where(self._state["quadratic"], 2 * moved + W, moved)
