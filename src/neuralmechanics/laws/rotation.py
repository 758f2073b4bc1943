"""The angular momentum that rotation symmetries give the parameters of a heavy ball."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.state import require_start, require_tensor
from neuralmechanics.laws.step import Drives, Hyperparameters


class RotationLaw(ChargeLaw):
    """J_k = ⟨θ_k, Av_k⟩ of an antisymmetric generator A: J_{k+1} = β_k J_k for the heavy ball, at any η.

    Since θ_{k+1} = θ_k - ηv_{k+1} and ⟨v,Av⟩ = 0, J_{k+1} = ⟨θ_k, A v_{k+1}⟩ = β_k J_k + a⟨θ_k, A(g + λθ_k)⟩,
    whose last term is zero by symmetry and antisymmetry: any batch, dampening and coupled decay drop out, and
    J_k is the product of the β. Decoupled decay scales θ first: J ← (1-ηλ)βJ. Torch's first step
    makes v = G, so J = 0 from then on: a run that began with an empty buffer has no angular momentum at all.

    Nesterov moves along G + βv instead, so J ← βJ + ⟨d,Av⟩ with a drive that symmetry does not give. It is read from
    `update_velocity` (⟨d,Av⟩ here, v after the step); without it the value is NaN and `holds` False. While β = 0
    J of the update direction is 0 and the idle buffer's own moment changes by ⟨d,Av⟩ as well.
    For other optimisers (AdamW) nothing is claimed; `rotation_defect` says by how much they violate the law.

    >>> law = RotationLaw()
    >>> law.start(torch.ones(1, dtype=torch.float64))
    >>> for momentum in (0.9, 0.5):
    ...     law.step(Hyperparameters(0.1, weight_decay=0.1, momentum=momentum), Drives())
    >>> law.value
    tensor([0.4500], dtype=torch.float64)
    """

    name = "rotation"
    memory = ("moment",)

    def __init__(self) -> None:
        super().__init__(None)

    @property
    def holds(self) -> Bool[Tensor, " charges"]:
        """False from the first step on that needed ⟨d,Av⟩ and was not given it."""
        return ~torch.isnan(self._state["charge"])

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin with J = `charge0` of the buffer as it is; 0 for an empty one. There is no other companion."""
        require_start(charge0)
        moment = charge0.detach().to(torch.float64).clone()
        self._state.start(charge0, moment=moment)

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        moment = self._state["moment"]
        c = self._state.coefficients(hyper)
        carried = torch.where(c.restart, 0.0, c.momentum * moment)
        shrink = torch.where(c.decoupled, 1 - c.learning_rate * c.weight_decay, 1.0)
        if drives.update_velocity is None:
            turning = torch.where(c.nesterov, torch.nan, shrink * carried)
            # an empty buffer has no moment to lose; any other is out of sight until ⟨d,Av⟩ is measured
            resting = torch.where(moment == 0, moment, torch.nan)
        else:
            P = self._state.drive("update_velocity", drives)
            turning = torch.where(c.nesterov, carried + P, shrink * carried)
            resting = moment + P
        self._state.move(
            c.active,
            charge=torch.where(c.running, turning, 0.0),
            moment=torch.where(c.running, turning, resting),
        )


def rotation_defect(
    before: Float64[Tensor, " charges"], after: Float64[Tensor, " charges"], hyper: Hyperparameters
) -> Float64[Tensor, " charges"]:
    """J_{k+1} - β_k J_k: how far one step was from the law; rounding for the heavy ball.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> rotation_defect(one, 0.9 * one, Hyperparameters(0.1, momentum=0.9))
    tensor([0.], dtype=torch.float64)
    """
    require_tensor("after", after)
    law = RotationLaw()
    law.start(before)
    law.step(hyper, Drives(update_velocity=torch.zeros_like(before)))
    return after - law.value
