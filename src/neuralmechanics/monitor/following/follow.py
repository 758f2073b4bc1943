"""One training followed: at each step the drives are measured and the laws advanced, on the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.laws import Drives, Hyperparameters
from neuralmechanics.monitor.following.drives import ALL_DRIVES, DriveMeter
from neuralmechanics.monitor.following.members import ChargeSettings, Members, Role
from neuralmechanics.monitor.following.tracker import LawTracker
from neuralmechanics.monitor.following.watchdog import Finding, Watchdog
from neuralmechanics.monitor.store.record import Record, StepDrives
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import Setting, StepWatch, Update, dense
from neuralmechanics.symmetry import Symmetries


class Follower:
    """The state of a followed training: step number, laws in progress, what the last step was fed.

    A step is an iteration: every optimiser at most once. It ends when all have stepped, or when one begins again. No
    method but `begin`, `restore`, `scale`, `record` and a step that is `due` looks at a value, so nothing waits for
    the device in between.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        symmetries: Symmetries,
        params: Mapping[str, Tensor],
        laws: Sequence[str],
        notes: Notes,
        *,
        residuals: bool,
        every_drive: bool,
        exact_update: bool,
    ) -> None:
        self.step = 0
        self.symmetries = symmetries
        self.notes = notes
        self._params = dict(params)
        self._device = next(iter(params.values())).device
        self._watches = [StepWatch(each, params, exact_update=exact_update) for each in optimizers]
        self._names = [type(each).__name__ for each in optimizers]
        self._meter = DriveMeter(symmetries, params, self._device)
        self._members = Members(symmetries, params, self._device)
        self._quadratic = symmetries.quadratic.to(self._device)
        self._squared = self._quadratic.double()
        self._degree = 1 + self._squared
        self._sgd = any(watch.known for watch in self._watches)
        self._exact = all(watch.copies for watch in self._watches)
        self.tracker = LawTracker(laws, self._quadratic, sgd=self._sgd, residuals=residuals, copied=self._exact)
        self._watchdog = Watchdog(model, symmetries, params, self._members, notes)
        self._every_drive = every_drive
        self._left = np.full(len(symmetries.labels), not self._sgd)
        self._since = 0
        self._judged = False
        self._found: list[Finding] = []
        self._residual: Tensor | None = None
        self._hyper: Hyperparameters | None = None
        self._moving = False
        self._kept_roles: dict[tuple[int, bool, bool], Role] = {}
        self._clear()

    def _clear(self) -> None:
        """Between two iterations."""
        self._stepped: set[int] = set()
        self._roles: dict[str, Role] = {}
        self._drives: Drives | None = None
        self._apart: Tensor | None = None
        self._gradients: dict[str, Tensor] = {}

    def attach(self) -> None:
        """Look at the model's precision from now on."""
        self._watchdog.attach()

    def close(self) -> None:
        """Let go of the model."""
        self._watchdog.close()

    def charge(self) -> Float64[Tensor, " charges"]:
        """The charges now."""
        values = self._values()
        return self._meter.pair(values, values)

    def scale(self) -> Float64[Tensor, " charges"]:
        """The sizes of the charges now, which errors are relative to."""
        return self._watchdog.sizes()

    def companion(self) -> Float64[Tensor, " charges"] | None:
        """⟨θ,v⟩ of momentum buffers already in use; None when there is none."""
        values = self._values()
        velocities: dict[str, Tensor] = {}
        for watch in self._watches:
            owned = set(watch.owned())
            velocities |= {name: v for name, v in watch.velocities().items() if name in owned}
        if not velocities:
            return None
        everywhere = {name: velocities.get(name, torch.zeros_like(value)) for name, value in values.items()}
        return self._meter.pair(everywhere, values)

    def begin(self, step: int, charge: Tensor, companion: Tensor | None, scale: Tensor) -> None:
        """Start every law here."""
        self.step, self._since = step, 0
        self.tracker.start(charge, companion)
        self._watchdog.open(charge, scale)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue the laws from a state that they saved."""
        self.tracker.load_state_dict(state)
        self._left = self.tracker.broken.cpu().numpy().copy()

    @property
    def single(self) -> bool:
        """Whether no parameter has more digits than a float of 32 bits."""
        return all(torch.finfo(p.dtype).eps >= torch.finfo(torch.float32).eps for p in self._params.values())

    @property
    def between(self) -> bool:
        """Whether no iteration is under way."""
        return not self._stepped

    @property
    def interrupted(self) -> bool:
        """Whether an optimiser began a step that was not seen to end, or the laws were left half moved."""
        return self._moving or any(watch.interrupted for watch in self._watches)

    @property
    def swapped(self) -> bool:
        """Whether an optimiser says that it has put averages in the parameters' place (schedule-free evaluation)."""
        return any(watch.swapped for watch in self._watches)

    def repeats(self, number: int) -> bool:
        """Whether this optimiser has stepped in this iteration already, so that its next step begins another."""
        return number in self._stepped

    def before_step(self, number: int) -> None:
        """What has to be known before an optimiser moves."""
        watch = self._watches[number]
        watch.before_step()
        if watch.rewritten:
            self._begin_anew(watch.rewritten)

    def after_step(self, number: int, *, due: bool) -> StepDrives | None:
        """Measure what an optimiser did; when all have stepped, advance every law by the iteration."""
        watch = self._watches[number]
        for name in watch.holding:
            self._roles[name] = self._role(*watch.role(name), watch.stale(name))
        wanted = self._wanted()
        if due:
            wanted.add("residual")
        drives, apart = self._meter.measure(self._collected(watch, due=due), wanted)
        self._drives = drives if self._drives is None else _sum(self._drives, drives)
        if apart is not None:
            self._apart = apart if self._apart is None else self._apart + apart
        self._stepped.add(number)
        ended = self.advance(due=due) if len(self._stepped) == len(self._watches) else None
        watch.finish()
        return ended

    def advance(self, *, due: bool) -> StepDrives:
        """The iteration has ended: advance every law by all that happened in it."""
        drives = self._drives
        assert drives is not None
        assert drives.parameter_update is not None
        assert drives.update_energy is not None
        self._moving = True
        settings = self._settings()
        self._warn_of_divergence(settings)
        done = self._degree * drives.parameter_update
        done.addcmul_(drives.update_energy, self._squared)
        leaving = self._leaving(settings)
        if leaving is not None:
            self.tracker.leave(leaving, self.charge() - done)
        hyper = settings.hyperparameters
        self.tracker.step(hyper if self._sgd else Hyperparameters(0.0), drives)
        self.step += 1
        self._since += 1
        claimed = None if self._apart is None else done - self._apart
        self._watchdog.add(self.step, done, claimed, exact=self._exact)
        self._residual, self._hyper, self._judged = drives.residual, hyper, due
        if due and self._sgd and drives.residual is not None:
            self._found = self._watchdog.judge(drives.residual, self._gradients, self.tracker.followed)
        self._clear()
        self._moving = False
        return StepDrives(self.step, hyper, drives)

    def record(self) -> Record:
        """Everything known after the last step, with what else moved the charges until now taken out of the laws."""
        if not self._judged:
            self._look_again()
        charge, residual = self.charge(), self._residual
        self._moving = True
        outside, moved = self._watchdog.settle(self.step, charge)
        if moved is not None:
            self.tracker.restart(moved, charge, self.companion())
            if residual is not None and not self._exact:
                # taken at θ_k as the update tells it, which is not what the step began with
                residual = torch.where(moved, torch.nan, residual)
        findings, self._found = self._found, []
        exact = self.tracker.exact
        if exact is not None:
            followed = self.tracker.followed
            for finding in findings:
                followed = followed & ~finding.charges.to(self._device)
            findings = findings + self._watchdog.compare(self._since, charge, exact, followed)
        ended = self._watchdog.report(self.step, findings, None if self._exact else moved)
        if ended is not None:
            self._left |= ended.numpy()
            self.tracker.leave(ended.to(self._device), charge)
        self._moving = False
        return Record(
            step=self.step,
            charge=charge,
            predicted=self.tracker.predictions(),
            residual=residual,
            hyperparameters=self._hyper or self._settings_ahead().hyperparameters,
            state=self.tracker.state_dict(),
            outside=None if moved is None else outside,
        )

    def _role(self, setting: Setting | None, first: bool, stale: bool) -> Role:
        """The role with these contents; the same object as before, as long as the setting is."""
        key = (id(setting), first, stale)
        known = self._kept_roles.get(key)
        if known is None:
            if len(self._kept_roles) >= _REMEMBERED:
                self._kept_roles.clear()
            known = self._kept_roles[key] = Role(setting, first, stale)
        return known

    def _values(self) -> dict[str, Tensor]:
        return {name: dense(parameter.detach()) for name, parameter in self._params.items()}

    def _collected(self, watch: StepWatch, *, due: bool) -> Iterator[tuple[str, Update | None]]:
        """The updates of one optimiser; its gradients are noted on the way for a record."""
        for name, update in watch.updates():
            if due and update is not None and update.gradient is not None:
                # Another optimiser's step, and what lies between, may overwrite it before the iteration has ended.
                one = len(self._watches) == 1
                self._gradients[name] = update.gradient if one else update.gradient.clone()
            yield name, update

    def _look_again(self) -> None:
        """Measure and judge the residual of the last step, where its parameters and gradients are still there."""
        if len(self._watches) > 1 or not self._watches[0].untouched():
            return
        self._residual = self._meter.measure(self._collected(self._watches[0], due=True), {"residual"})[0].residual
        if self._sgd and self._residual is not None:
            self._found = self._watchdog.judge(self._residual, self._gradients, self.tracker.followed)
        self._clear()

    def _begin_anew(self, names: Collection[str]) -> None:
        """Momentum was written by something else: laws that remember ⟨θ,v⟩ begin anew from what is there."""
        touched = torch.from_numpy(self._members.touched(names)).to(self._device)
        self.tracker.restart(touched, self.charge(), self.companion())
        self.notes.tell(
            "momentum",
            self.step + 1,
            f"before step {self.step + 1} something other than the optimiser wrote the momentum of {min(names)!r} (a "
            "loaded state?): the laws begin anew from the present charges there",
        )

    def _settings(self) -> ChargeSettings:
        """The settings of this iteration; parameters of optimisers that have not stepped stand still."""
        return self._members.settings({name: self._roles.get(name, _IDLE) for name in self._params})

    def _settings_ahead(self) -> ChargeSettings:
        """The same with the optimisers that have not stepped as their groups hold them now."""
        if self._roles and len(self._watches) == 1:
            return self._settings()
        roles = dict(self._roles)
        for watch in self._watches:
            roles = {name: Role(watch.setting(name)) for name in watch.owned()} | roles
        return self._members.settings({name: roles.get(name, _IDLE) for name in self._params})

    def _wanted(self) -> set[str]:
        if self._every_drive:
            return set(ALL_DRIVES)
        settings = self._settings_ahead()
        return self.tracker.wanted(
            buffered=any(watch.idle_buffers for watch in self._watches),
            nesterov=settings.hyperparameters.nesterov is not False,
            strong=settings.strength > 1,
            mixed=settings.mixed,
        )

    def _leaving(self, settings: ChargeSettings) -> Bool[Tensor, " charges"] | None:
        """Charges that the closed laws cease to hold for in this step; None when there are no new ones."""
        if not self._sgd:
            return None
        if settings.uneven is None and all(watch.known and not watch.scaled for watch in self._watches):
            return None
        leaving = np.zeros_like(self._left)
        why = "parameters of one charge differ in learning rate or momentum, or got no gradient"
        if settings.uneven is not None:
            leaving |= settings.uneven
        for watch, optimiser in zip(self._watches, self._names, strict=True):
            if watch.scaled and watch.known:
                leaving |= self._members.touched(watch.owned())
                why = "a gradient scaler works inside the fused step and may skip it unseen"
            elif not watch.known:
                leaving |= self._members.touched(watch.owned())
                why = f"{optimiser} obeys no closed law"
        new = leaving & ~self._left
        if not new.any():
            return None
        self._left |= new
        example = self.symmetries.labels[int(new.argmax())]
        self.notes.tell(
            f"leaving: {why}",
            self.step + 1,
            f"at step {self.step + 1} {why} ({int(new.sum())} charges, such as {example}): the closed laws do not hold "
            "for them and are nan from here on, the identity continues",
        )
        return torch.from_numpy(new).to(self._device)

    def _warn_of_divergence(self, settings: ChargeSettings) -> None:
        if settings.strength > 2:
            self.notes.tell(
                "divergence",
                self.step + 1,
                f"at step {self.step + 1} learning rate times weight decay is {settings.strength / 2:.3g} times what "
                "training can bear: parameters without gradient grow at every step, whatever the laws say; lower one "
                "of the two",
            )


_IDLE = Role(None)
# Roles that are kept: a training repeats a few.
_REMEMBERED = 64


def _sum(a: Drives, b: Drives) -> Drives:
    """Drives of two optimisers in one iteration: sums over disjoint parameters."""
    total = {}
    for name in (field.name for field in fields(Drives)):
        one, other = getattr(a, name), getattr(b, name)
        total[name] = None if one is None or other is None else one + other
    return Drives(**total)
