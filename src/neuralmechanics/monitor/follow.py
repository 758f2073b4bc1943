"""One training followed: at each step the drives are measured and the laws advanced, on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.optim import Optimizer

from neuralmechanics.laws import Drives, Hyperparameters
from neuralmechanics.monitor.drives import ALL_DRIVES, DriveMeter
from neuralmechanics.monitor.members import ChargeSettings, Members, Role
from neuralmechanics.monitor.record import Record, StepDrives
from neuralmechanics.monitor.tracker import LawTracker
from neuralmechanics.monitor.warning import announce
from neuralmechanics.optimizers import StepWatch
from neuralmechanics.symmetry import Symmetries


class Follower:
    """The state of a followed training: step number, laws in progress, what the last step was fed.

    No method but `begin`, `restore` and `scale` looks at a value, so nothing waits for the device in between.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        symmetries: Symmetries,
        params: Mapping[str, Tensor],
        laws: Sequence[str],
        *,
        residuals: bool,
        every_drive: bool,
        exact_update: bool,
    ) -> None:
        self.step = 0
        self.symmetries = symmetries
        self._params = dict(params)
        self._device = next(iter(params.values())).device
        self._watch = StepWatch(optimizer, params, exact_update=exact_update)
        self._meter = DriveMeter(symmetries, self._device)
        self._members = Members(symmetries, params, self._device)
        self._quadratic = symmetries.quadratic.to(self._device)
        self.tracker = LawTracker(laws, self._quadratic, sgd=self._watch.known, residuals=residuals)
        self._every_drive = every_drive
        self._residual: Tensor | None = None
        self._hyper: Hyperparameters | None = None
        self._left = np.full(len(symmetries.labels), not self._watch.known)
        self._told: set[str] = set()

    def charge(self) -> Float64[Tensor, " charges"]:
        """The charges now."""
        return self._meter.pair(self._params, self._params)

    def scale(self) -> Float64[Tensor, " charges"]:
        """The sizes of the charges now, which errors are relative to."""
        return self.symmetries.charge_scale({name: p.detach().cpu() for name, p in self._params.items()})

    def companion(self) -> Float64[Tensor, " charges"] | None:
        """⟨θ,v⟩ of momentum buffers already in use; None when there is none."""
        velocities = self._watch.velocities()
        return self._meter.pair(velocities, self._params) if velocities else None

    def begin(self, step: int, charge: Tensor, companion: Tensor | None) -> None:
        """Start every law here."""
        self.step = step
        self.tracker.start(charge, companion)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue the laws from a state that they saved."""
        self.tracker.load_state_dict(state)
        self._left = self.tracker.broken.cpu().numpy().copy()

    def before_step(self) -> None:
        """What has to be known before the optimiser moves."""
        if changed := self._watch.changed_outside():
            self._tell(
                "outside",
                f"{changed[0]!r} was written to in place between two steps (by another optimiser, an average, a "
                "projection?); laws know of optimiser steps alone, so their errors now include that change",
            )
        self._watch.before_step()

    def after_step(self, *, residual: bool) -> StepDrives:
        """Measure what the optimiser did and advance every law by it."""
        settings = self._settings()
        leaving = self._leaving(settings)
        wanted = set(ALL_DRIVES) if self._every_drive else self._wanted(settings.hyperparameters)
        if residual:
            wanted.add("residual")
        if leaving is not None:
            wanted.add("parameter_update")
        drives = self._meter.measure(self._watch.updates(), wanted)
        if leaving is not None:
            self.tracker.leave(leaving, self._charge_before(drives))
        hyper = settings.hyperparameters
        self.tracker.step(hyper if self._watch.known else Hyperparameters(0.0), drives)
        self.step += 1
        self._residual, self._hyper = drives.residual, hyper
        return StepDrives(self.step, hyper, drives)

    def record(self) -> Record:
        """Everything known after the last step."""
        if self._residual is None and self._watch.untouched():
            self._residual = self._meter.measure(self._watch.updates(), {"residual"}).residual
        return Record(
            step=self.step,
            charge=self.charge(),
            predicted=self.tracker.predictions(),
            residual=self._residual,
            hyperparameters=self._hyper or self._settings_ahead(),
            state=self.tracker.state_dict(),
        )

    def _settings(self) -> ChargeSettings:
        roles = {name: Role(*self._watch.role(name)) for name in self._params}
        return self._members.settings(roles)

    def _settings_ahead(self) -> Hyperparameters:
        """Before any step: the settings as the groups hold them."""
        roles = {name: Role(self._watch.setting(name)) for name in self._params}
        return self._members.settings(roles).hyperparameters

    def _wanted(self, hyper: Hyperparameters) -> set[str]:
        return self.tracker.wanted(buffered=self._watch.idle_buffers, nesterov=hyper.nesterov is not False)

    def _leaving(self, settings: ChargeSettings) -> Bool[Tensor, " charges"] | None:
        """Charges that the closed laws cease to hold for in this step; None when there are no new ones."""
        if not self._watch.known:
            return None
        leaving = np.zeros_like(self._left)
        if self._watch.scaled:
            leaving[:] = True
            why = "a gradient scaler works inside the fused step and may skip it unseen"
        elif settings.uneven is not None:
            leaving = settings.uneven
            why = "parameters of one charge differ in learning rate, weight decay or momentum, or got no gradient"
        new = leaving & ~self._left
        if not new.any():
            return None
        self._left |= new
        example = self.symmetries.labels[int(new.argmax())]
        self._tell(
            "leaving",
            f"{why} ({int(new.sum())} charges, such as {example}): the closed laws do not hold for them and are nan "
            "from here on, the identity continues",
        )
        return torch.from_numpy(new).to(self._device)

    def _charge_before(self, drives: Drives) -> Tensor:
        moved, energy = drives.parameter_update, drives.update_energy
        assert moved is not None  # both were wanted
        assert energy is not None
        return self.charge() - torch.where(self._quadratic, 2 * moved + energy, moved)

    def _tell(self, subject: str, message: str) -> None:
        """Say something once."""
        if subject not in self._told:
            self._told.add(subject)
            announce(f"at step {self.step + 1} {message}")
