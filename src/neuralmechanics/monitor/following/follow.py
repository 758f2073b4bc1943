"""One training followed: at each step the drives are measured and the laws advanced, on the device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.laws import Drives, Hyperparameters
from neuralmechanics.monitor.following.leaving import Leaving
from neuralmechanics.monitor.following.measuring.angular_momentum import AngularMomentum
from neuralmechanics.monitor.following.measuring.drives import ALL_DRIVES, DriveMeter, gathered, rated, summed
from neuralmechanics.monitor.following.measuring.momentum import companion
from neuralmechanics.monitor.following.measuring.spending import Spending, change
from neuralmechanics.monitor.following.members import ChargeSettings, Members
from neuralmechanics.monitor.following.rates import Rates
from neuralmechanics.monitor.following.roles import Roles
from neuralmechanics.monitor.following.telling import tell_of_addends, tell_of_divergence, tell_of_momentum
from neuralmechanics.monitor.following.tracker import RATED_DRIVES, LawTracker, Maker
from neuralmechanics.monitor.following.watching.observing import Observer, Slopes
from neuralmechanics.monitor.following.watching.watchdog import Finding, Watchdog
from neuralmechanics.monitor.processes.portion import Answer, Portion
from neuralmechanics.monitor.store.shards.record import Record, StepDrives
from neuralmechanics.monitor.store.shards.schema import LAST_RESIDUAL
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import StepWatch, Update, dense
from neuralmechanics.symmetry import Symmetries

_FLOAT32 = float(torch.finfo(torch.float32).eps)


class Follower:
    """The state of a followed training: step number, laws in progress, what the last step was fed.

    A step is an iteration: every optimiser at most once. It ends when all have stepped, or when one begins again. No
    method but `begin`, `restore`, `scale`, `record` and a step that is `due` looks at a value, so nothing waits for
    the device in between. Laws and drives are this process's share of the model's, which are their sums; the same
    methods, `charge`, `state` and `gathered` ask the other processes for theirs.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        symmetries: Symmetries,
        params: Mapping[str, Tensor],
        laws: Mapping[str, Maker],
        notes: Notes,
        portion: Portion,
        rotations: AngularMomentum | None,
        *,
        residuals: bool,
        every_drive: bool,
        exact_update: bool,
    ) -> None:
        self.step = self._recorded = self._since = 0
        self.symmetries = symmetries
        self.notes = notes
        self._params = dict(params)
        self._device = next(iter(params.values())).device
        self._watches = [StepWatch(each, params, exact_update=exact_update) for each in optimizers]
        self._portion = portion
        self._rotations = rotations
        self._quadratic = symmetries.quadratic.to(self._device)
        self._meter = DriveMeter(portion.shares, params, self._device, self._quadratic)
        self._members = Members(symmetries, params, self._device)
        self._sgd = any(watch.known for watch in self._watches)
        self._exact = all(watch.copies for watch in self._watches)
        # Where any parameter is below float32 only the general identity is free of its rounding.
        copied = self._exact or any(torch.finfo(p.dtype).eps > _FLOAT32 for p in params.values())
        self.tracker = LawTracker(laws, self._quadratic, sgd=self._sgd, residuals=residuals, copied=copied)
        self._spending = Spending(self._quadratic)
        self.observer = Observer(model, optimizers)
        self._slopes = Slopes(self._params, portion)
        self._roles = Roles(self._watches, self._members, self._params)
        self._watchdog = Watchdog(model, symmetries, params, self._members, notes, portion, self._meter.energies)
        self._every_drive = every_drive
        self._leaving = Leaving(symmetries, self._members, self._watches, notes)
        self._rates = Rates(self._watches)
        self._rated: Tensor | None = None
        self._judged = False
        self._found: list[Finding] = []
        self._residual: Tensor | None = None
        self._whole_residual: Tensor | None = None
        self.residual: Tensor | None = None
        """that of the last record, of the whole model; None where it was not measured"""
        self._hyper: Hyperparameters | None = None
        self._moving = False
        self._clear()

    def _clear(self) -> None:
        """Between two iterations."""
        self._stepped: set[int] = set()
        self._roles.clear()
        self._drives: Drives | None = None
        self._companion: tuple[Tensor, Tensor] | None = None
        self._apart: Tensor | None = None
        self._gradients: dict[str, Tensor] = {}

    def attach(self) -> None:
        """Look at the model's precision from now on."""
        self._watchdog.attach()

    def close(self) -> None:
        """Let go of the model."""
        self._watchdog.close()

    def share(self) -> Float64[Tensor, " charges"]:
        """This process's share of the charges now."""
        return self._meter.charge(self._values())

    def charge(self, share: Tensor | None = None) -> Float64[Tensor, " charges"]:
        """The charges now, from this process's share of them where that is known."""
        return self._portion.charges(self._portion.total(self.share() if share is None else share)[0], self._params)

    def scale(self) -> Float64[Tensor, " charges"]:
        """The sizes of the charges now, which errors are relative to."""
        return self._watchdog.sizes()

    def companion(self, rates: Mapping[str, float] | None = None) -> Float64[Tensor, " charges"] | None:
        """This process's share of ⟨θ,v⟩ of buffers in use, times `rates` where given; None when there is none."""
        return companion(self._meter, self._watches, self._values(), rates)

    def whole_companion(self) -> Float64[Tensor, " charges"] | None:
        """⟨θ,v⟩ of momentum buffers already in use; None when there is none."""
        share = self.companion()
        return None if share is None else self._portion.total(share)[0]

    def begin(self, step: int, charge: Tensor, scale: Tensor) -> None:
        """Start every law here, at the charges that were measured."""
        self.step, self._since, self._recorded = step, 0, step
        share, velocities = self.share(), self.companion()
        self.tracker.start(share, velocities)
        self._spending.start(share, velocities)
        self._watchdog.open(scale)
        self._roles.doubt()
        if self._rotations is not None:
            self._rotations.restart()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue the laws from a state that they saved."""
        self._whole_residual = state.get(LAST_RESIDUAL)
        self.tracker.load_state_dict(self._portion.spread({n: v for n, v in state.items() if n != LAST_RESIDUAL}))
        self._leaving.left = self.tracker.broken.cpu().numpy().copy()
        if self._rotations is not None:
            self._rotations.restart(state)

    def state(self) -> dict[str, Tensor]:
        """What the laws of the whole model remember."""
        turning = {} if self._rotations is None else self._rotations.state()
        return self._whole(self.tracker.state_dict()) | turning

    def predictions(self) -> dict[str, Tensor]:
        """What each law predicts now of the whole model; nan where it does not hold."""
        return self._whole(self.tracker.predictions())

    def gathered(self, steps: Sequence[StepDrives]) -> list[StepDrives]:
        """What the laws were fed, of the whole model."""
        return gathered(steps, self._portion.total)

    def agree(self, decide: Callable[[], Answer]) -> Answer:
        """What the writing process decides, for all."""
        return self._portion.agree(decide)

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
        self._slopes.begin(told=watch.told)
        if self._rotations is not None:
            self._rotations.before_step(number)
        if watch.rewritten:
            self._begin_anew(watch.rewritten)
        if self.between and self._sgd and self._rates.begin():
            self._measure_rated()

    def reread(self, number: int) -> None:
        """Other hooks ran between `before_step` and the step, and may have changed its settings."""
        self._watches[number].reread()

    def after_step(self, number: int, *, due: bool) -> StepDrives | None:
        """Measure what an optimiser did; when all have stepped, advance every law by the iteration."""
        watch = self._watches[number]
        watch.judge()
        self._slopes.end(first=self.between)
        self._roles.take(watch)
        ahead = self._roles.ahead(self._rates.largest)
        wanted = self._wanted(ahead) | ({"residual"} if due else set())
        even = len(self._watches) == 1 and ahead.uneven is None and ahead.rated is None
        measured = self._meter.measure(self._collected(watch, due=due), wanted, self._spending.wanted(watch, even=even))
        drives, apart = measured.drives, None if measured.stored is None else measured.stored.change
        self._spending.stepped(watch, measured, complete=self._roles.complete)
        self._drives = drives if self._drives is None else summed(self._drives, drives)
        if apart is not None:
            self._apart = apart if self._apart is None else self._apart + apart
        self._stepped.add(number)
        if self._rotations is not None:
            self._rotations.after_step(number)
        if due and len(self._watches) > 1:
            self.observer.note(number)
        ended = self.advance(due=due) if len(self._stepped) == len(self._watches) else None
        watch.finish()
        return ended

    def advance(self, *, due: bool) -> StepDrives:
        """The iteration has ended: advance every law by all that happened in it."""
        drives = self._drives
        assert drives is not None
        assert drives.parameter_update is not None
        assert drives.update_energy is not None
        self._moving, settings = True, self._roles.settings(self._rates.largest)
        tell_of_divergence(self.notes, self.step + 1, settings.strength)
        done = change(drives.parameter_update, drives.update_energy, self._quadratic)
        held = settings.rated is None or self._rates.held(self._roles.taken)
        leaving = self._leaving.at(self.step + 1, settings, held=held, twice=self._roles.twice)
        if drives.residual is not None and (self._roles.twice or settings.uneven is not None):
            drives = replace(drives, residual=self._known(drives.residual))
        if leaving is not None:
            self.tracker.leave(torch.from_numpy(leaving).to(self._device), self.share() - done)
        hyper, drives = settings.hyperparameters, rated(drives, settings.rated, self._companion)
        self.tracker.step(hyper if self._sgd else Hyperparameters(0.0), drives)
        if self._rotations is not None:
            self._rotations.advance()
        self.step, self._since = self.step + 1, self._since + 1
        self._spending.ended(hyper, drives, done)
        claimed = None if self._apart is None else done - self._apart
        self._watchdog.add(self._spending.charge, done, claimed, exact=self._exact, hyper=hyper)
        self._residual, self._whole_residual, self._hyper, self._judged = drives.residual, None, hyper, due
        self.observer.stepped(self._watchdog.scaled_calls)
        if due:
            self.observer.see()
            if self._replaced_inside():
                self._residual = None
            elif self._sgd and drives.residual is not None:
                self._judge(drives.residual)
        self._clear()
        self._moving = False
        return StepDrives(self.step, hyper, drives)

    def record(self) -> Record:
        """Everything known after the last step, with what else moved the charges until now taken out of the laws."""
        self._watchdog.require_same()
        if not self._judged and self._hyper is not None:
            if self._replaced_inside():
                self._residual = None
            elif self._slopes.there():
                self._look_again()
        share, residual = self.share(), self._whole_residual
        charge = self.charge(share)
        if residual is None and self._residual is not None:
            residual = self._portion.total(self._residual)[0]
        self._moving = True
        outside, moved = self._watchdog.settle(self.step, charge, self._spending.charge)
        self._spending.rebase(share)
        if moved is not None:
            self.tracker.restart(moved, share, self.companion())
            self._spending.distrust(moved & self.tracker.followed)
            self._rates.forget()
            self._roles.doubt()
            if self._rotations is not None:
                self._rotations.restart()
            if residual is not None and not self._exact:
                # taken at θ_k as the update tells it, which is not what the step began with
                residual = torch.where(moved, torch.nan, residual)
        findings, self._found = self._found, []
        followed = self.tracker.followed
        for finding in findings:
            followed = followed & ~finding.charges.to(self._device)
        laws = self.tracker.exact, self.tracker.identity
        departed, left = self._watchdog.compare(self._since, charge, *laws, followed)
        findings = findings + left
        if departed is not None:
            self.tracker.restart(departed, share, self.companion())
            self._spending.distrust()
        ended = self._watchdog.report(self.step, findings, None if self._exact else moved)
        if ended is not None:
            self._leaving.left |= ended.numpy()
            self.tracker.leave(ended.to(self._device), share.clone())
        self.residual, since, self._recorded = residual, self._recorded, self.step
        rotations = None if self._rotations is None else self._rotations.record(self.step, self._watchdog.unit)
        self._moving = False
        return Record(
            step=self.step,
            charge=charge,
            predicted=self.predictions(),
            residual=residual,
            hyperparameters=self._hyper or self._roles.ahead(self._rates.largest).hyperparameters,
            state=self.state(),
            rotations=rotations,
            outside=None if moved is None else outside,
            budget=self._whole(self._spending.taken()),
            since=since,
            observed=self.observer.taken() if self._judged else {},
        )

    def _measure_rated(self) -> None:
        """Ratios of rates have changed: Σ η⟨θ,v⟩ of the charges whose parameters differ in η, or did so before."""
        before, self._rated = self._rated, self._roles.ahead(self._rates.largest).rated
        concerned = [each for each in (before, self._rated) if each is not None]
        companion = self.companion(self._rates.of) if concerned else None
        if companion is not None:
            self._companion = companion, torch.stack(concerned).any(0)

    def _values(self) -> dict[str, Tensor]:
        return {name: dense(parameter.detach()) for name, parameter in self._params.items()}

    def _collected(self, watch: StepWatch, *, due: bool) -> Iterator[tuple[str, Update | None]]:
        """The updates of one optimiser; its gradients are noted on the way for a record."""
        for name, update in watch.updates():
            if update is not None and update.addend:
                tell_of_addends(self.notes, self.step + 1, name, self.tracker.names)
            if due and update is not None and update.gradient is not None:
                # Another optimiser's step, and what lies between, may overwrite it before the iteration has ended.
                one = len(self._watches) == 1
                self._gradients[name] = update.gradient if one else update.gradient.clone()
            yield name, update

    def _look_again(self) -> None:
        """Measure and judge the residual of the last step, where its parameters and gradients are still there."""
        # The processes of a training have as many optimisers each.
        if len(self._watches) > 1 or bool(self._portion.largest(torch.tensor(float(not self._watches[0].untouched())))):
            return
        measured = self._meter.measure(self._collected(self._watches[0], due=True), {"residual"}).drives.residual
        assert measured is not None
        self._residual = self._known(measured) if self._residual is None else self._residual
        if self._sgd:
            self._judge(self._residual)
        self._clear()

    def _known(self, residual: Tensor) -> Tensor:
        """⟨g,ξ⟩ where all of g was read; of two steps g is that of either, and the sum of both is none of the two."""
        mask = self._members.touched(self._roles.unread(self._params))
        return residual.masked_fill(torch.from_numpy(mask).to(self._device), torch.nan)

    def _replaced_inside(self) -> bool:
        """Whether a step that is not torch's own took, wrote or zeroed the gradients, so that ⟨g,ξ⟩ is not known."""
        return not all(watch.told for watch in self._watches) and not self._slopes.there()

    def _judge(self, share: Tensor) -> None:
        """The residual of the whole model, and what it says about the symmetries, are kept for the record."""
        self._whole_residual = residual = self._portion.total(share)[0]
        self._found = self._watchdog.judge(residual, self._gradients, self.tracker.followed)

    def _whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums of all that is a number; flags are alike in all processes."""
        numbers = {name: value for name, value in state.items() if value.is_floating_point()}
        return dict(state) | dict(zip(numbers, self._portion.total(*numbers.values()), strict=True))

    def _begin_anew(self, names: Collection[str]) -> None:
        """Momentum was written by something else: laws that remember ⟨θ,v⟩ begin anew from what is there."""
        touched = torch.from_numpy(self._members.touched(names)).to(self._device)
        share, velocities = self.share(), self.companion()
        self.tracker.restart(touched, share, velocities)
        if velocities is not None:
            self._spending.turn(velocities)
        self._rates.forget()
        if self._rotations is not None:
            self._rotations.restart()
        tell_of_momentum(self.notes, self.step + 1, min(names))

    def _wanted(self, settings: ChargeSettings) -> set[str]:
        if self._every_drive:
            return set(ALL_DRIVES) - (set() if settings.rated is not None else RATED_DRIVES)
        return self.tracker.wanted(
            buffered=any(watch.idle_buffers for watch in self._watches),
            nesterov=settings.hyperparameters.nesterov is not False or settings.apart,
            strong=settings.strength > 1,
            mixed=settings.mixed,
            rated=settings.rated is not None,
        )
