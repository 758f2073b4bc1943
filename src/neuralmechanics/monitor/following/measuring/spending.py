"""The budget of a followed training: which parts of a step are measured, which follow from the step before."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws import ChargeBudget, Drives, Hyperparameters, StoredStep
from neuralmechanics.monitor.following.measuring import budget_forms
from neuralmechanics.monitor.following.measuring.drives import Measured
from neuralmechanics.optimizers import StepWatch

_OF_SGD = (budget_forms.FINITE, budget_forms.DECAYED, budget_forms.BROKEN, budget_forms.COMPANION)
_OF_OTHERS = (budget_forms.FINITE, budget_forms.DECAYED)
_ENERGIES = (budget_forms.FINITE, budget_forms.CLAIMED_ENERGY)
# Under a scaler inside the step neither the gradient's scale is known nor whether the step was skipped.
_OF_SCALED = (budget_forms.CLAIMED_ENERGY,)


class Spending:
    """Feeds a `ChargeBudget` with the steps of one or several optimisers, at no read of memory of its own.

    One SGD that treats the members of each charge alike: all parts follow from the drives. Elsewhere they are further
    sums over the same read: of the gradient, too, where SGD's members differ in more than their decay.
    """

    def __init__(self, quadratic: Bool[Tensor, " charges"]) -> None:
        self._budget = ChargeBudget(quadratic)
        self._quadratic = quadratic
        self._stored: StoredStep | None = None
        self._closed = self._distrusted = False
        self._disturbed = False  # something else wrote the parameters since the charges were measured

    def start(self, share: Float64[Tensor, " charges"], companion: Tensor | None) -> None:
        """Begin with empty parts at these charges."""
        self._budget.start(share, companion)

    @property
    def charge(self) -> Float64[Tensor, " charges"]:
        """The charges that were measured last, with all that the optimisers did to them since."""
        return self._budget.charge

    def rebase(self, share: Float64[Tensor, " charges"]) -> None:
        """Go on from charges that were measured."""
        self._disturbed = False
        self._budget.rebase(share)

    def turn(self, companion: Tensor) -> None:
        """Go on from momenta that something else wrote."""
        self._budget.rebase(self._budget.charge, companion)

    def distrust(self, sound: Bool[Tensor, " charges"] | None = None) -> None:
        """Something else moves the parameters between steps, so that nothing follows from the step before.

        `sound`: charges that were moved so, and whose symmetry holds all the same.
        """
        self._distrusted = True
        if sound is not None:
            self._budget.believe(sound)

    def wanted(self, watch: StepWatch, *, even: bool) -> tuple[str, ...]:
        """The parts to be measured in the step of an optimiser; `even`: it alone moves every charge, in one way."""
        self._disturbed |= watch.disturbed
        ordinary = even and watch.known and not (watch.scaled or self._disturbed or self._distrusted)
        self._closed = ordinary and self._budget.companion_known
        if self._closed:
            return ()
        if watch.scaled:
            return _OF_SCALED
        return _OF_SGD if watch.known else _OF_OTHERS

    def stepped(self, watch: StepWatch, measured: Measured, *, complete: bool) -> None:
        """One optimiser's step; `complete`: no parameter of any charge was left alone, and no other optimiser steps."""
        if self._closed:
            self._stored = measured.stored
            return
        drives, parts = measured.drives, dict(measured.parts)
        assert drives.parameter_update is not None
        assert drives.update_energy is not None
        done = change(drives.parameter_update, drives.update_energy, self._quadratic)
        if measured.stored is not None:
            done.sub_(measured.stored.change)
        twice = self._quadratic.view(torch.int8)
        companion = parts.pop(budget_forms.COMPANION, None)
        parts = {name: v if name in _ENERGIES else torch.addcmul(v, v, twice) for name, v in parts.items()}
        if watch.scaled:
            parts = {budget_forms.FINITE: parts[budget_forms.CLAIMED_ENERGY]}
        rest = "momentum_memory" if watch.known and not watch.scaled else "preconditioning"
        self._budget.measured_step(done, parts, rest, companion if complete else None)

    def ended(self, hyper: Hyperparameters, drives: Drives, done: Float64[Tensor, " charges"]) -> None:
        """The iteration that was made of these steps."""
        if self._closed:
            self._budget.step(hyper, drives, done, self._stored)
        else:
            self._budget.moved(done)
        self._stored = None

    def taken(self) -> dict[str, Tensor]:
        """This process's share of what each cause did since the last time this was asked."""
        return self._budget.taken()


def change(
    along: Float64[Tensor, " charges"], energy: Float64[Tensor, " charges"], quadratic: Bool[Tensor, " charges"]
) -> Float64[Tensor, " charges"]:
    """2⟨θ,d⟩ + |d|² of quadratic charges, ⟨d,1⟩ of translations."""
    return torch.addcmul(along, along + energy, quadratic.view(torch.int8))
