"""Following the charges of a model through a training, without touching the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.follow import Follower
from neuralmechanics.monitor.parameters import symmetry_parameters
from neuralmechanics.monitor.recorder import Recorder, open_store, run_content
from neuralmechanics.monitor.tracker import law_names
from neuralmechanics.monitor.warning import announce
from neuralmechanics.optimizers import follows_sgd
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    from types import TracebackType

    from neuralmechanics.monitor.run import Run


class Monitor:
    """Measures every charge of a model while it trains, predicts each with every law, and records both.

    A context manager around the training loop; it hangs on the optimiser's step hooks and changes nothing: losses
    and parameters are the same to the last bit with and without it.

    `store`: folder of the run; an existing run is continued in a new segment. None keeps the records in memory.
    `every`: steps between records; the first and the last step are always recorded.
    `laws`: names of the laws to follow, by default all that apply to the optimiser.
    `residuals`: measure ⟨g,ξ⟩ at every step, which the law `identity` needs (else it is nan, and residuals are
    measured at records alone); one more pass over the gradients a step.
    `drives`: store what the laws are fed at every step, so that any law can be replayed from the run.
    `exact_update`: copy parameters before each step instead of reading the update from the momentum buffer.
    `strict`: raise the monitor's own failures; by default a failure is one warning and the training goes on.
    `resume`: continue a stored run also where the parameters are of none of its records; by default that is refused,
    for it is another training.

    Raises ValueError for `every` < 1, an unknown law, a model or a stored run that the symmetries do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        symmetries: Symmetries,
        store: str | Path | None = None,
        *,
        every: int = 10,
        laws: Sequence[str] | None = None,
        residuals: bool = False,
        drives: bool = False,
        exact_update: bool = False,
        strict: bool = False,
        resume: bool = False,
    ) -> None:
        if every < 1:
            raise ValueError(f"every={every}: the number of steps between records must be at least 1")
        params = symmetry_parameters(model, symmetries)
        if not params:
            raise ValueError("the symmetries hold no charge, so there is nothing to monitor in this model")
        plain = any(group.get("momentum", 0.0) == 0.0 for group in optimizer.param_groups)
        sgd = follows_sgd(optimizer)
        names = law_names(laws, sgd=sgd, plain=plain)
        if not sgd and laws is None:
            announce(
                f"{type(optimizer).__name__} obeys no closed law: its charges are followed by the identity alone, from "
                "copies of the parameters taken before each step"
            )
        options = {
            "every": every,
            "laws": list(names),
            "residuals": residuals or drives,
            "drives": drives,
            "exact_update": exact_update,
        }
        self._optimizer = optimizer
        self._every = every
        self._strict = strict
        self._recorder = Recorder(
            open_store(store, run_content(model, optimizer, symmetries, options)),
            drives=drives,
            patient=not strict,
            resume=resume,
        )
        self._follower = Follower(
            optimizer,
            symmetries,
            params,
            names,
            residuals=residuals or drives,
            every_drive=drives,
            exact_update=exact_update,
        )
        self._hooks: list[Any] = []
        self._failure: Exception | None = None
        self._begun = self._closed = self._in_step = False

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
        return self._follower.tracker.predictions()

    @property
    def run(self) -> Run:
        """The run as recorded so far."""
        from neuralmechanics.monitor.run import Run

        return Run(self._recorder.store.source())

    def log(self, **scalars: float | Tensor) -> None:
        """Numbers to keep with the next record, such as loss=loss; tensors stay on their device until then."""
        self._guard(lambda: self._recorder.log(scalars))

    def flush(self) -> None:
        """Write the record of the last recorded step now, rather than when the next step begins."""
        self._guard(self._recorder.flush)

    def __enter__(self) -> Self:
        if self._hooks or self._closed:
            raise RuntimeError("this monitor has been entered before; make a new Monitor to continue its run")
        self._recorder.store.lock()
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the last record and let go of the optimiser. Leaving the context does this."""
        if self._closed:
            return
        self._closed = True
        for hook in self._hooks:
            hook.remove()
        try:
            self._guard(self._finish)
        finally:
            self._recorder.close()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._in_step = True
        self._guard(self._prepare)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._guard(self._advance)
        self._in_step = False

    def _prepare(self) -> None:
        self._begin()
        self._recorder.flush()
        self._follower.before_step()

    def _advance(self) -> None:
        due = (self._follower.step + 1) % self._every == 0
        self._recorder.keep(self._follower.after_step(residual=due))
        if due:
            self._recorder.hold(self._follower.record())

    def _finish(self) -> None:
        if self._in_step:
            # Nobody knows how much of the step the parameters have made: no record of them would be true.
            self._recorder.finish()
            if not self._begun:
                return
            last = self._recorder.recorded_step
            announce(
                f"step {self._follower.step + 1} was interrupted before it ended: no record of it is written, "
                f"{'and there is none before' if last is None else f'the last record is that of step {last}'}"
            )
            return
        self._begin()
        self._recorder.finish()
        if self._recorder.recorded_step != self._follower.step:
            self._recorder.hold(self._follower.record())
            self._recorder.finish()

    def _begin(self) -> None:
        """Lazily, so that weights loaded after the monitor was made are those that count."""
        if not self._begun:
            self._recorder.begin(self._follower)
            self._begun = True

    def _guard(self, work: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            with torch.no_grad():
                work()
        except Exception as error:
            if self._strict:
                raise
            self._failure = error
            announce(
                f"the monitor stopped at step {self._follower.step} ({type(error).__name__}: {error}); training goes "
                f"on unmonitored, the run is readable up to step {self._recorder.recorded_step}"
            )
