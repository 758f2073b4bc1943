"""What every law is fed at one optimiser step, and what every law offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.sgd import Sgd


@dataclass(frozen=True)
class Hyperparameters(Sgd["float | Tensor"]):
    """SGD's hyperparameters at one step, each a number or one entry a charge, with what the step found.

    `learning_rate` η, `weight_decay` λ, `momentum` β, `dampening` α (ignored where β = 0, as torch does), `nesterov`
    and `decoupled` are those of `Sgd`: v ← βv + aG, θ ← θ - ηv.
    `first_step`: torch's first step with this optimiser state, buffer := G undampened; so a = 1 there and
    wherever β = 0, else a = 1-α.  `active`: False where a charge's parameters got no gradient: nothing moves.
    An entry nan of `weight_decay` says that the decay of a charge is no multiple of it (its parameters differ in λ, or
    it is one of θ + c): the exact law then reads the drive `decay`, every other law has no number there. Where they
    differ in η as well, `learning_rate` is the one that theirs are told in, and the law reads the `rated_…` drives.

    A plain negative η, λ or β is refused, as `Sgd` does.

    >>> Hyperparameters(learning_rate=-0.1)
    Traceback (most recent call last):
    ValueError: learning_rate is -0.1, which is negative; give a number >= 0
    """

    first_step: bool | Bool[Tensor, " charges"] = False
    active: bool | Bool[Tensor, " charges"] = True


@dataclass(frozen=True)
class Drives:
    """What was measured in one step, signed like the charge; None where it was not measured.

    `update_energy` W = ⟨d,d⟩ of the update d = θ_{k+1} - θ_k.  `update_velocity` P = ⟨d,v⟩ with the momentum
    buffer v as it is after the step (0 where there is none).  `residual` ρ = ⟨g,θ⟩, for translations ⟨g,1_A⟩.
    `gradient_energy` ⟨g,g⟩ of the raw minibatch gradient.  `parameter_update` ⟨θ_k,d⟩, for translations
    ⟨d,1_A⟩.  g is the gradient that is descended: the reader has negated it under `maximize=True`.
    `decay` Σ_p λ_p ⟨θ_p,ξ_p⟩ over a charge's parameters, ⟨θ_p,θ_p⟩ for quadratic charges, ⟨θ_p,θ_p + c_p⟩ for those of
    θ + c, ⟨θ_p,1_A⟩ for translations; read where λ is nan.
    Where the parameters of a charge differ in η, in units of their own, nan elsewhere: `rated_pull`
    Σ_p η_p (λ_p ⟨θ_p,ξ_p⟩ + ρ_p), `rated_velocity` Σ_p η_p ⟨d_p,v_p⟩, and `rated_companion` Σ_p η_p ⟨ξ_p,v_p⟩ before
    a step whose rates stand in another ratio than before, the first with equal ones included, nan at other steps.
    `velocity_gradient` S = ⟨v,g⟩ and `velocity_energy` ⟨v,v⟩, v after the step: for strong decay alone.
    Entries of W, P, S and the energies at translations are ignored.
    """

    update_energy: Float64[Tensor, " charges"] | None = None
    update_velocity: Float64[Tensor, " charges"] | None = None
    residual: Float64[Tensor, " charges"] | None = None
    gradient_energy: Float64[Tensor, " charges"] | None = None
    parameter_update: Float64[Tensor, " charges"] | None = None
    velocity_gradient: Float64[Tensor, " charges"] | None = None
    velocity_energy: Float64[Tensor, " charges"] | None = None
    decay: Float64[Tensor, " charges"] | None = None
    rated_pull: Float64[Tensor, " charges"] | None = None
    rated_velocity: Float64[Tensor, " charges"] | None = None
    rated_companion: Float64[Tensor, " charges"] | None = None


class Law(Protocol):
    """The motion of many charges, advanced one optimiser step at a time.

    A law is constructed with `quadratic`, False for the charges that are translations (all True when left out).
    `start` may look at values; `step` never does: it costs no host synchronisation on any device.
    """

    @property
    def name(self) -> str:
        """The law's name in every table: exact, identity, modified_flow, …"""

    @property
    def value(self) -> Float64[Tensor, " charges"]:
        """The charges the law predicts now."""

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`; `companion0` = ⟨θ,v⟩ (translations ⟨v,1_A⟩) of a momentum buffer already in use."""

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step; ValueError names a drive the law needs and was not given."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the law remembers, as tensors."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
