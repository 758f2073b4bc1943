"""From a followed training to a store: what is written when, and where a resumed run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.monitor.following.follow import Follower
from neuralmechanics.monitor.following.provenance import provenance
from neuralmechanics.monitor.store.lock import RunBusyError
from neuralmechanics.monitor.store.protocol import Store
from neuralmechanics.monitor.store.shards.compact import compacted
from neuralmechanics.monitor.store.shards.record import SCALAR_PREFIX, Record, StepDrives, drive_arrays, scalar_problem
from neuralmechanics.monitor.store.shards.schema import LAST_RESIDUAL, STATE_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.warning import Notes, announce

# Charges recomputed from a checkpoint differ by the order of a float64 sum, not more.
_SAME = 1e-12
_FLOAT32 = float(np.finfo(np.float32).eps)
# Records kept while the disk refuses them: enough for an hour at one in 15 seconds.
_MOST_WAITING = 256


@dataclass(frozen=True, eq=False)
class _Segment:
    """A segment that is to be begun."""

    info: Mapping[str, Any]
    start: Arrays


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A record that is to be written."""

    step: int
    arrays: Arrays


@dataclass(frozen=True, eq=False)
class _Progress:
    """What is written and what is not yet. Replaced as a whole: an interrupt may come between any two statements."""

    segment: _Segment | None = None
    waiting: tuple[_Waiting, ...] = ()
    written: int = 0
    recorded_step: int | None = None
    held: Record | None = None
    steps: list[StepDrives] = field(default_factory=list)
    due: tuple[StepDrives, ...] = ()
    scalars: dict[str, float | Tensor] = field(default_factory=dict)


class Recorder:
    """Holds the last record until its scalars are in, then writes it.

    A record that cannot be written is kept and tried again with the next one; `patient` recorders say so once, others
    raise. Where more than 256 wait, or the end has come, the error is raised in any case.
    """

    def __init__(
        self,
        store: Store,
        notes: Notes,
        *,
        drives: bool,
        patient: bool = False,
        resume: bool | int = False,
    ) -> None:
        self.store = store
        self.notes = notes
        self._drives = drives
        self._patient = patient
        self._resume = resume
        self._loaded: Mapping[str, Any] | None = None
        self._progress = _Progress()
        self._gather: Callable[[Sequence[StepDrives]], Sequence[StepDrives]] = list
        self._late = False
        self._single = False
        self.scalars: dict[str, float] = {}
        """what was logged with the last record"""

    @property
    def recorded_step(self) -> int | None:
        """The step of the last record that is safe; None before the first."""
        return self._progress.recorded_step

    @property
    def taken_step(self) -> int | None:
        """The step of the last record that was taken, safe or not; None before the first."""
        now = self._progress
        if now.held is not None:
            return now.held.step
        return now.waiting[-1].step if now.waiting else now.recorded_step

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on, when the training begins, from the state of a monitor that was saved with a checkpoint."""
        self._loaded = state

    def begin(self, follower: Follower) -> None:
        """Open a segment at the follower's parameters: a new run, a known record, or a saved state to go on from."""
        self._gather, self._single = follower.gathered, follower.single
        charge, scale, companion = follower.charge(), follower.scale(), follower.whole_companion()
        step, state, matched = follower.agree(lambda: self._start(charge, scale))
        follower.begin(step, charge, scale)
        if state is not None:
            follower.restore(state)
        info = {"start_step": follower.step, "continued": matched, "time": time.time(), **provenance()}
        info["observed"] = follower.observer.describe()
        start: Arrays = {"charge": charge.cpu().numpy(), "scale": scale.cpu().numpy()}
        if companion is not None:
            start["companion"] = companion.cpu().numpy()
        self._progress = replace(self._progress, segment=_Segment(info, start))
        self._write()
        self.hold(follower.record())

    def log(self, step: int, scalars: Mapping[str, float | Tensor]) -> None:
        """Keep numbers for the next record; what is no number is said once, or raised where nothing may go wrong."""
        for name, value in scalars.items():
            problem = scalar_problem(name, value)
            if problem is None:
                kept = value.detach().clone() if isinstance(value, Tensor) else float(value)
                self._progress.scalars[name] = kept
            elif not self._patient:
                raise ValueError(problem)
            else:
                self.notes.tell(f"scalar {name}", step, f"{problem}; it is not recorded")

    def keep(self, step: StepDrives) -> None:
        """Keep what the laws were fed, where drives are stored."""
        if self._drives:
            self._progress.steps.append(step)

    def hold(self, record: Record) -> None:
        """Take a record, to be written by the next `flush`."""
        now = self._progress
        due = (*now.due, *self._gather(now.steps))
        self._progress = replace(now, held=record, steps=[], due=due)

    def flush(self) -> None:
        """Write the held record; it is safe on the disk when this returns, unless it was said that it is not."""
        now = self._progress
        if now.held is not None:
            drives = drive_arrays(now.due)
            self.scalars = {name: float(value) for name, value in now.scalars.items()}
            record = compacted(now.held.arrays(now.scalars), single=self._single)
            ready = _Waiting(now.held.step, record | drives)
            self._progress = replace(now, waiting=(*now.waiting, ready), held=None, due=(), scalars={})
        self._write()

    def finish(self) -> None:
        """Write everything; the last attempt raises where it fails."""
        self._patient = False
        self.flush()

    def close(self) -> None:
        """Keep what was said since the last record, and let other writers in."""
        if self.store.begun:
            with suppress(OSError, RunBusyError):  # why may be what was said; it was heard
                self.notes.write(self.store.note)
        try:
            self.store.close()
        except OSError as error:
            announce(f"the end of the run in {self.store.path} is not marked ({error}); its records are not concerned")

    def _write(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            waiting = len(self._progress.waiting)
            if not self._patient or waiting > _MOST_WAITING:
                raise
            if not self._late:
                self._late = True
                step = self._progress.waiting[0].step if waiting else 0
                what = f"the record of step {step}" if waiting else "the start of the run"
                self.notes.tell(
                    f"late {step}",
                    step,
                    f"{what} could not be written ({error}); it is kept and tried again at the next record, until then "
                    f"the run is readable up to step {self.recorded_step}",
                )

    def _write_all(self) -> None:
        while self._progress.segment is not None or self._progress.waiting:
            now = self._progress
            if now.segment is not None:
                self.store.begin_segment(now.segment.info, now.segment.start)
                self._progress = replace(now, segment=None)
            else:
                self.notes.write(self.store.note)  # before the record: who reads of a step knows what was said of it
                first, *rest = now.waiting
                self.store.append(now.written, first.arrays)
                self._progress = replace(now, waiting=tuple(rest), written=now.written + 1, recorded_step=first.step)
        if self.store.begun:
            self.notes.write(self.store.note)
        self._late = False

    def _start(self, charge: Tensor, scale: Tensor) -> tuple[int, dict[str, Tensor] | None, bool]:
        """The step to begin at, the laws' state there if it is known, and whether nothing of it was lost."""
        given = not isinstance(self._resume, bool) and self._resume > 0
        if not (self.store.recorded or self._loaded is not None or given):
            return 0, None, True
        step, state = self._found(charge, scale)
        return step, state, state is not None

    def _found(self, charge: Tensor, scale: Tensor) -> tuple[int, dict[str, Tensor] | None]:
        """The step that these parameters are of and the laws' state there, None where only the step is known.

        From the state that was loaded, else from the records. Raises ValueError where neither is theirs.
        """
        if self._loaded is not None:
            state = self._loaded
            if not _agree(state["charge"].to(charge)[None], charge, scale).any():
                raise ValueError(
                    f"the state that was loaded is of step {state['step']}, the parameters are of another; load "
                    "weights and monitor from the same checkpoint"
                )
            self._progress.scalars.update(state.get("scalars", {}))
            return int(state["step"]), {name: value.to(charge.device) for name, value in state["laws"].items()}
        given = None if self._resume is True else int(self._resume)
        last = 0
        for arrays in self.store.past():
            steps = arrays["step"]
            last = max(last, int(steps[-1]))
            past = torch.from_numpy(arrays["charge"]).to(charge)
            same = _agree(past, charge, scale, single=self._single).cpu().numpy()
            rows = np.flatnonzero(same if given is None else same & (steps == given))
            if rows.size:
                # Of neighbours that moved less than they were rounded the nearest is meant, of equal ones the last.
                apart = (past - charge).abs().sum(dim=1).tolist()
                row = min(rows.tolist(), key=lambda number: (apart[number], -number))
                self._progress.scalars.update(_scalars(arrays, row))
                return int(steps[row]), self._state(arrays, row, charge.device)
        if given is None:
            raise ValueError(
                f"these parameters are of no record in {self.store.path}, whose last step is {last}, so their step is "
                "unknown; give it as resume=STEP, or load a state_dict() that the monitor gave at the checkpoint"
            )
        return given, None

    def _state(self, arrays: Arrays, row: int, device: torch.device) -> dict[str, Tensor] | None:
        """The laws' state at a row; a shard of several records keeps that of its last alone."""
        state = {
            name.removeprefix(STATE_PREFIX): torch.from_numpy(array.copy()).to(device)
            for name, array in arrays.items()
            if name.startswith(STATE_PREFIX)
        }
        if state and row == len(arrays["step"]) - 1:
            if "residual" in arrays:
                state[LAST_RESIDUAL] = torch.from_numpy(arrays["residual"][row].copy()).to(device)
            return state
        step = int(arrays["step"][row])
        self.notes.tell(
            "anew",
            step,
            f"the run in {self.store.path} continues at step {step}, of which it no longer keeps the laws' state: "
            "every law starts anew there from the present charges",
        )
        return None


def _scalars(arrays: Arrays, row: int) -> dict[str, float]:
    """What was logged with a record."""
    values = {n.removeprefix(SCALAR_PREFIX): float(a[row]) for n, a in arrays.items() if n.startswith(SCALAR_PREFIX)}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _agree(known: Tensor, here: Tensor, scale: Tensor, *, single: bool = False) -> Tensor:
    """Which rows of charges are those here; `single`: they may be differences from the last that were floats."""
    if known.shape[1:] != here.shape:
        return torch.zeros(len(known), dtype=torch.bool)
    rounding = _FLOAT32 * (known - known[-1:]).abs() if single else 0.0
    return ((known - here).abs() <= _SAME * scale + rounding).all(dim=1)
