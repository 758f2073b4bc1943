"""Charges that the closed laws cease to hold for, and what is said of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from neuralmechanics.monitor.following.members import ChargeSettings, Members
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import StepWatch
from neuralmechanics.symmetry import Symmetries

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Leaving:
    """The charges that the closed laws have ceased to hold for, because of what optimisers do with their parameters."""

    def __init__(self, symmetries: Symmetries, members: Members, watches: Sequence[StepWatch], notes: Notes) -> None:
        self._symmetries = symmetries
        self._members = members
        self._watches = watches
        self._notes = notes
        self._sgd = any(watch.known for watch in watches)
        self._rated = False
        self.left: Mask = np.full(len(symmetries.labels), not self._sgd)

    def at(self, step: int, settings: ChargeSettings, *, held: bool, twice: Collection[str]) -> Mask | None:
        """Those that leave in this step; None when there are no new ones.

        `held`: every parameter was moved with the learning rate that the iteration began with. `twice`: parameters
        that were moved more than once.
        """
        if not self._sgd:
            return None
        if settings.rated is not None and held:
            self._tell_rated(step, settings)
        even = settings.uneven is None and (settings.rated is None or held)
        if even and not twice and all(watch.known and not watch.scaled for watch in self._watches):
            return None
        leaving, why = self._found(settings, held=held, twice=twice)
        new = leaving & ~self.left
        if not new.any():
            return None
        self.left |= new
        self._notes.tell(
            f"leaving: {why}",
            step,
            f"at step {step} {why} ({self._some(new)}): the closed laws do not hold for them and are nan from here on, "
            "the identity continues",
        )
        return new

    def _found(self, settings: ChargeSettings, *, held: bool, twice: Collection[str]) -> tuple[Mask, str]:
        leaving = np.zeros_like(self.left)
        why = (
            "parameters of one charge differ in momentum or in decoupled decay, or some were not moved (they got no "
            "gradient, or no optimiser holds them)"
        )
        if settings.uneven is not None:
            leaving |= settings.uneven
        if settings.rated is not None and not held:
            leaving |= settings.rated.cpu().numpy()
            why = "learning rates changed between the optimisers of one iteration"
        if twice:
            leaving |= self._members.touched(twice)
            why = f"two optimisers moved {min(twice)!r} in one iteration"
            if shared := {name for watch in self._watches for name in watch.shared}.intersection(twice):
                why = f"a step moves {min(shared)!r} more than once: it is held twice, or in another parameter's memory"
        for watch in self._watches:
            if watch.scaled and watch.known:
                leaving |= self._members.touched(watch.owned())
                why = "a gradient scaler works inside the fused step and may skip it unseen"
            elif not watch.known:
                leaving |= self._members.touched(watch.owned())
                why = f"{watch.optimizer_name} obeys no closed law{watch.unlike and f': {watch.unlike}'}"
        return leaving, why

    def _tell_rated(self, step: int, settings: ChargeSettings) -> None:
        if self._rated or settings.rated is None:
            return
        self._rated = True
        self._notes.tell(
            "rated",
            step,
            f"from step {step} on parameters of one charge differ in learning rate "
            f"({self._some(settings.rated.cpu().numpy())}): the exact law needs the residuals of the charge's parts, "
            "which are measured at every step; every other closed law is nan there",
        )

    def _some(self, mask: Mask) -> str:
        return f"{int(mask.sum())} charges, such as {self._symmetries.labels[int(mask.argmax())]}"
