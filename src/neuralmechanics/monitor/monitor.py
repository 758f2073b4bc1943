"""Following the charges of a model through a training, without touching the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.choosing import choose_portion, choose_store, refuse_shards
from neuralmechanics.monitor.defaults import own_defaults
from neuralmechanics.monitor.following.follow import Follower
from neuralmechanics.monitor.following.measuring.angular_momentum import AngularMomentum
from neuralmechanics.monitor.following.parameters import followed_parameters, require_owner, symmetry_parameters
from neuralmechanics.monitor.following.provenance import run_content
from neuralmechanics.monitor.following.recorder import Recorder
from neuralmechanics.monitor.following.tracker import ROTATION, Maker, chosen_laws
from neuralmechanics.monitor.one_loop import OneLoop
from neuralmechanics.monitor.processes.holding import sharded
from neuralmechanics.monitor.processes.writing import SilentStore, Writer, writes
from neuralmechanics.monitor.store.shards.schema import LAST_RESIDUAL
from neuralmechanics.monitor.trackers.protocol import Tracker
from neuralmechanics.monitor.trackers.tracked_store import TrackedStore
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import StepHooks, innermost, may_follow_sgd, nested_step
from neuralmechanics.optimizers.hyperparameters.bounds import require_whole
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    from types import TracebackType

    from neuralmechanics.monitor.explaining.findings.finding import Finding
    from neuralmechanics.monitor.reading.run import Run


class Monitor(OneLoop):
    """Measures every charge of a model while it trains, predicts each with every law, and records both.

    A context manager around the training loop; it hangs on the optimiser's step hooks and changes nothing: losses
    and parameters are the same to the last bit with and without it. A record is taken when its iteration has ended:
    when the next one begins, at `flush`, or at the end.

    `optimizer`: one, or a list of those that step in one iteration; wrappers (Accelerate, Lightning) are looked into.
    `store`: folder of the run; None keeps the records in memory. A run that is there already is refused unless
    `resume` is given: True where the parameters are those of a record, else the step that they are of.
    `every`: steps between records; the first and the last step are always recorded.
    `laws`: names of the laws to follow, by default all that apply to the optimiser. "rotation" follows the angular
    momentum of every rotation as well (`Run.angular_momentum`), whatever the optimiser. A class like `laws.ChargeLaw`
    is a law of one's own: fed SGD's settings and the drives that it `needs` at every step, recorded by its `name`.
    `residuals`: measure ⟨g,ξ⟩ at every step, which the law `identity` needs (else it is nan, and residuals are
    measured at records alone); one more pass over the gradients a step.
    `drives`: store what the laws are fed at every step, so that any law can be replayed from the run.
    `exact_update`: copy parameters before each step instead of reading the update from the optimiser's state.
    `strict`: raise the monitor's own failures; by default a failure is one warning and the training goes on.
    `trackers`: show each record there too (see `neuralmechanics.monitor.trackers`).
    `writer`: of several processes the one that writes, by default the first; "every" where each trains its own model.

    Of several processes that train one model each makes the monitor. Replicas (DistributedDataParallel) are followed
    by each on its own. Shards (DTensors of FSDP2, tensor parallel) are added up where a record is taken, and then
    alone: `flush`, `state_dict`, `predictions` and leaving are for all processes together.

    Raises ValueError for `every` < 1, an unknown law, a model or a stored run that the symmetries do not fit, a
    stored run without `resume`, and an optimiser that holds none of the parameters.
    """

    @own_defaults()
    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        symmetries: Symmetries,
        store: str | Path | None = None,
        *,
        every: int = 10,
        laws: Sequence[str | Maker] | None = None,
        residuals: bool = False,
        drives: bool = False,
        exact_update: bool = False,
        strict: bool = False,
        resume: bool | int = False,
        trackers: Sequence[Tracker] = (),
        writer: Writer = None,
    ) -> None:
        require_whole("every", every, 1)
        params = followed_parameters(model, symmetries)
        optimizers = list(innermost(optimizer))
        require_owner(params, optimizers)
        plain = any(group.get("momentum", 0.0) == 0.0 for each in optimizers for group in each.param_groups)
        sgd = any(map(may_follow_sgd, optimizers))
        followed = chosen_laws(laws, sgd=sgd, plain=plain)
        refuse_shards(followed, params)
        self._notes = Notes(aloud=writes(writer))
        if not sgd and laws is None:
            self._notes.tell(
                "no closed law",
                0,
                f"{type(optimizers[0]).__name__} obeys no closed law: its charges are followed by the identity alone",
            )
        options = {
            "every": every,
            "laws": list(followed),
            "residuals": residuals or drives,
            "drives": drives,
            "exact_update": exact_update,
            "budget": True,
        }
        self._optimizers, self._symmetries = optimizers, symmetries
        self._every = every
        self._strict = strict
        rotations = None
        if ROTATION in (laws or ()):
            rotations = _rotations(model, symmetries, optimizers, self._notes)
            options["rotations"] = AngularMomentum.families(symmetries)
        content = run_content(model, optimizers, symmetries, options)
        opened = choose_store(store, content, writer, model, params, resume=resume)
        if isinstance(opened, SilentStore):
            trackers = ()
        tracked = TrackedStore(opened, trackers, symmetries, self._notes, strict=strict)
        self._recorder = Recorder(tracked, self._notes, drives=drives, patient=not strict, resume=resume)
        self._portion = choose_portion(symmetries, params, writer, self._notes)
        self._follower = Follower(
            model,
            optimizers,
            symmetries,
            params,
            followed,
            self._notes,
            self._portion,
            rotations,
            residuals=residuals or drives,
            every_drive=drives,
            exact_update=exact_update,
        )
        self._hooks: list[StepHooks] = []
        self._failure: Exception | None = None
        self._entered = self._begun = self._closed = self._due = False
        self._at_entry: Tensor | None = None

    @property
    def step(self) -> int:
        """Optimiser steps made so far, those before a resume included."""
        return self._follower.step

    @property
    def recorded_step(self) -> int | None:
        """The step of the last record that is safe in the store; None before the first."""
        return self._recorder.recorded_step

    @property
    def failure(self) -> Exception | None:
        """What ended the monitoring early, if anything did."""
        return self._failure

    @property
    def predictions(self) -> Mapping[str, Tensor]:
        """What each law predicts now, float64 [charges] by name; nan where a law does not hold."""
        with own_defaults():
            return self._follower.predictions()

    @property
    def run(self) -> Run:
        """The run as recorded so far."""
        from neuralmechanics.monitor.reading.run import Run

        return Run(self._recorder.store.source())

    def findings(self) -> list[Finding]:
        """What the training has shown so far (see `Run.findings`); nothing before the first step."""
        return self.run.findings() if self.step else []

    def _repr_html_(self) -> str:
        from neuralmechanics.monitor.reading.notebook import monitor_view

        path = self._recorder.store.path
        return monitor_view(path, self.step, self._every, self._failure, self._symmetries)

    def log(self, **scalars: float | Tensor) -> None:
        """Numbers to keep with the next record, such as loss=loss; tensors stay on their device until then."""
        self._require_entered()
        self._guard(lambda: self._recorder.log(self._follower.step, scalars))

    def flush(self) -> None:
        """Write the record of the last recorded step now, rather than when the next step begins."""
        self._require_entered()
        self._guard(self._complete)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the monitor: the step and the laws' state, numbers and tensors alone.

        The step is recorded as well, so that the run has it whatever comes after. After a failure of the monitor
        nothing is known of the laws any more: the state then is the reason alone.
        """
        state: dict[str, Any] = {}

        def gather() -> None:
            charge = self._record_now()
            state["charge"] = self._follower.charge() if charge is None else charge
            state["laws"] = self._follower.state()
            if (residual := self._follower.residual) is not None:
                state["laws"][LAST_RESIDUAL] = residual
            state["scalars"] = dict(self._recorder.scalars)

        self._guard(gather)
        if self._failure is not None:
            return {"step": self._follower.step, "failure": str(self._failure)}
        return {"step": self._follower.step, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at the step and with the laws of a `state_dict`, with the weights of the same checkpoint.

        To be called before the first step; ValueError after it, or for what is no state of a monitor.
        """
        if self._begun:
            raise ValueError("load_state_dict() comes before the first step: this monitor has begun already")
        if "failure" in state:
            raise ValueError(
                f"the monitor had failed at step {state.get('step')} when this state was saved ({state['failure']}): "
                "it holds no laws; give resume=STEP with the step that the weights are of"
            )
        if missing := {"step", "charge", "laws"} - set(state):
            raise ValueError(f"this is no state of a monitor: it lacks {', '.join(sorted(missing))}")
        self._recorder.load(state)

    def __enter__(self) -> Self:
        if self._entered or self._closed:
            raise RuntimeError("this monitor has been entered before; make a new Monitor to continue its run")
        self._recorder.store.lock()
        self._entered = True
        for number, optimizer in enumerate(self._optimizers):
            hooks = self._hook(self._prepare, number), self._hook(self._advance, number)
            self._hooks.append(StepHooks(optimizer, *hooks))
        self._guard(self._attach)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._portion.leave()  # the other processes may never come to a record any more
        self.close()

    def close(self) -> None:
        """Write the last record and let go of the optimiser. Leaving the context does this."""
        if self._closed:
            return
        self._require_entered()
        self._closed = True
        for hook in self._hooks:
            hook.remove()
        self._follower.close()
        try:
            if self._entered:
                self._guard(self._finish)
        finally:
            self._portion.leave()
            self._recorder.close()

    def _hook(self, work: Callable[[int], None], number: int) -> Callable[[Optimizer, Any, Any], None]:
        """A step hook of one optimiser that does `work`, once for steps inside steps."""

        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if not nested_step(optimizer):
                self._guard(lambda: work(number))

        return hook

    def _attach(self) -> None:
        self._follower.attach()
        self._portion.begin()
        self._at_entry = self._follower.share()

    def _prepare(self, number: int) -> None:
        self._begin()
        if self._follower.repeats(number):
            self._end_iteration()
        if self._follower.between:
            self._complete()
        self._follower.before_step(number)

    def _advance(self, number: int) -> None:
        due = self._next_is_due()
        if self._hooks[number].close_in():
            self._follower.reread(number)
        ended = self._follower.after_step(number, due=due)
        if ended is not None:
            self._recorder.keep(ended)
            self._due = due

    def _end_iteration(self) -> None:
        """The iteration is over although not every optimiser stepped in it."""
        due = self._next_is_due()
        self._recorder.keep(self._follower.advance(due=due))
        self._due = due

    def _next_is_due(self) -> bool:
        return (self._follower.step + 1) % self._every == 0

    def _complete(self) -> None:
        """Take the record that is due, now that its iteration has ended, and write it."""
        if self._due and not self._follower.swapped:
            self._due = False
            self._recorder.hold(self._follower.record())
        self._recorder.flush()

    def _record_now(self) -> Tensor | None:
        """A record of this very step, due or not; the charges as they are, where it was taken here."""
        self._begin()
        if not self._follower.between:
            self._end_iteration()
        self._complete()
        if self._recorder.taken_step == self._follower.step or self._follower.swapped:
            return None
        record = self._follower.record()
        self._recorder.hold(record)
        self._recorder.flush()
        return record.charge.clone()

    def _finish(self) -> None:
        if self._follower.interrupted:
            # The parameters may be half moved: they are no state of the training.
            step, last = self._follower.step, self._recorder.taken_step
            self._notes.tell(
                "interrupted",
                step,
                f"step {step + 1} was interrupted (it was not seen to end after step {step}): no record of it is "
                f"written, {'and there is none before' if last is None else f'the last record is that of step {last}'}",
            )
            self._recorder.finish()
            return
        self._tell_unseen()
        self._recorder.finish()
        if self._portion.whole:
            self._record_now()

    def _tell_unseen(self) -> None:
        """Nothing was recorded of a training whose optimiser is moved by other methods than `step`."""
        before = self._at_entry
        if self._begun or before is None or _same(before, self._follower.share()):
            return
        names = ", ".join(type(each).__name__ for each in self._optimizers)
        self._notes.tell(
            "unseen",
            0,
            f"the parameters moved but no step of {names} was seen, so nothing was recorded: it is moved by other "
            "methods than step() (first_step, second_step?), or another optimiser was; give the one whose step() runs",
        )

    def _require_entered(self) -> None:
        if not self._entered:
            self._notes.tell(
                "not entered",
                0,
                "this monitor was never entered, so it sees no step and records nothing; write "
                "`with Monitor(…) as monitor:` around the loop",
            )

    def _begin(self) -> None:
        """Lazily, so that weights loaded after the monitor was made are those that count."""
        if not self._begun:
            self._recorder.begin(self._follower)
            self._begun, self._at_entry = True, None

    def _guard(self, work: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            with own_defaults():
                work()
        except Exception as error:
            if self._strict:
                raise
            self._failure = error
            self._portion.leave()
            self._notes.tell(
                "failure",
                self._follower.step,
                f"the monitor stopped at step {self._follower.step} ({type(error).__name__}: {error}); training goes "
                f"on unmonitored, the run is readable up to step {self._recorder.recorded_step}",
                always=True,
            )


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit, nan where the other is nan."""
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _rotations(
    model: nn.Module, symmetries: Symmetries, optimizers: Sequence[Optimizer], notes: Notes
) -> AngularMomentum:
    """The rotations of the symmetries, on parameters that this process holds as a whole."""
    names = [n for family in symmetries.families for n in (*family.parameters, *family.action.inputs)]
    params = symmetry_parameters(model, symmetries, dict.fromkeys(names))
    if any(map(sharded, params.values())):
        raise ValueError("laws=['rotation'] needs whole tensors, these parameters are sharded; leave the law out")
    return AngularMomentum(symmetries, params, optimizers, notes)
