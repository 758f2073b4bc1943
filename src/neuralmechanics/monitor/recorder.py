"""From a followed training to a store: what is written when, and where a resumed run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.follow import Follower
from neuralmechanics.monitor.memory import MemoryStore
from neuralmechanics.monitor.provenance import provenance
from neuralmechanics.monitor.record import Record, StepDrives, drive_arrays, scalar_problem
from neuralmechanics.monitor.schema import STATE_PREFIX
from neuralmechanics.monitor.shard import Arrays
from neuralmechanics.monitor.store import RunStore
from neuralmechanics.monitor.warning import announce
from neuralmechanics.symmetry import Symmetries

# Charges recomputed from a checkpoint differ by the order of a float64 sum, not more.
_SAME = 1e-12
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
    scalars: dict[str, float | Tensor] = field(default_factory=dict)


class Recorder:
    """Holds the last record until its scalars are in, then writes it.

    A record that cannot be written is kept and tried again with the next one; `patient` recorders say so once, others
    raise. Where more than 256 wait, or the end has come, the error is raised in any case.
    """

    def __init__(
        self, store: RunStore | MemoryStore, *, drives: bool, patient: bool = False, resume: bool = False
    ) -> None:
        self.store = store
        self._drives = drives
        self._patient = patient
        self._resume = resume
        self._refused: set[str] = set()
        self._progress = _Progress()
        self._late = False

    @property
    def recorded_step(self) -> int | None:
        """The step of the last record that is safe; None before the first."""
        return self._progress.recorded_step

    def begin(self, follower: Follower) -> None:
        """Open a segment at the follower's parameters: a new run, or a known record to go on from."""
        charge, companion = follower.charge(), follower.companion()
        scale = follower.scale()
        follower.begin(0, charge, companion)
        matched = not self.store.recorded
        if self.store.recorded:
            matched = self._continue(follower, charge, companion, scale)
        info = {"start_step": follower.step, "continued": matched, "time": time.time(), **provenance()}
        start: Arrays = {"charge": charge.cpu().numpy(), "scale": scale.cpu().numpy()}
        if companion is not None:
            start["companion"] = companion.cpu().numpy()
        self._progress = replace(self._progress, segment=_Segment(info, start))
        self._write()
        self.hold(follower.record())

    def log(self, scalars: Mapping[str, float | Tensor]) -> None:
        """Keep numbers for the next record; what is no number is said once, or raised where nothing may go wrong."""
        for name, value in scalars.items():
            problem = scalar_problem(name, value)
            if problem is None:
                kept = value.detach().clone() if isinstance(value, Tensor) else float(value)
                self._progress.scalars[name] = kept
            elif not self._patient:
                raise ValueError(problem)
            elif name not in self._refused:
                self._refused.add(name)
                announce(f"{problem}; it is not recorded")

    def keep(self, step: StepDrives) -> None:
        """Keep what the laws were fed, where drives are stored."""
        if self._drives:
            self._progress.steps.append(step)

    def hold(self, record: Record) -> None:
        """Take a record, to be written by the next `flush`."""
        self._progress = replace(self._progress, held=record)

    def flush(self) -> None:
        """Write the held record; it is safe on the disk when this returns, unless it was said that it is not."""
        now = self._progress
        if now.held is not None:
            ready = _Waiting(now.held.step, now.held.arrays(now.scalars) | drive_arrays(now.steps))
            self._progress = replace(now, waiting=(*now.waiting, ready), held=None, steps=[], scalars={})
        self._write()

    def finish(self) -> None:
        """Write everything; the last attempt raises where it fails."""
        self._patient = False
        self.flush()

    def close(self) -> None:
        """Let other writers in."""
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
                what = f"the record of step {self._progress.waiting[0].step}" if waiting else "the start of the run"
                announce(
                    f"{what} could not be written ({error}); it is kept and tried again at the next record, until then "
                    f"the run is readable up to step {self.recorded_step}"
                )

    def _write_all(self) -> None:
        while self._progress.segment is not None or self._progress.waiting:
            now = self._progress
            if now.segment is not None:
                self.store.begin_segment(now.segment.info, now.segment.start)
                self._progress = replace(now, segment=None)
            else:
                first, *rest = now.waiting
                self.store.append(now.written, first.arrays)
                self._progress = replace(now, waiting=tuple(rest), written=now.written + 1, recorded_step=first.step)
        self._late = False

    def _continue(self, follower: Follower, charge: Tensor, companion: Tensor | None, scale: Tensor) -> bool:
        """Find the record that these parameters are of, and restore the laws from it."""
        here, size = charge.cpu().numpy(), scale.cpu().numpy()
        last = 0
        for arrays in self.store.past():
            last = max(last, int(arrays["step"][-1]))
            same = np.all(np.abs(arrays["charge"] - here) <= _SAME * size, axis=1)
            if not same.any():
                continue
            row = int(np.flatnonzero(same)[-1])
            step = int(arrays["step"][row])
            if step == 0 and last > 0 and self.store.reconfigured and not self._resume:
                raise ValueError(_another_training(self.store.path, last, "its optimiser was another"))
            follower.begin(step, charge, companion)
            return self._restore(follower, arrays, charge) if row == len(same) - 1 else self._anew(step)
        if not self._resume:
            raise ValueError(_another_training(self.store.path, last, "these parameters are of none of its records"))
        follower.begin(last, charge, companion)
        announce(
            f"these parameters are of no record in {self.store.path}, whose last step is {last}: the run continues "
            "there, with every law started anew from the present charges"
        )
        return False

    def _restore(self, follower: Follower, arrays: Arrays, charge: Tensor) -> bool:
        state = {
            name.removeprefix(STATE_PREFIX): torch.from_numpy(array.copy()).to(charge.device)
            for name, array in arrays.items()
            if name.startswith(STATE_PREFIX)
        }
        follower.restore(state)
        return True

    def _anew(self, step: int) -> bool:
        announce(
            f"the run in {self.store.path} continues at step {step}, of which it no longer keeps the laws' state: "
            "every law starts anew there from the present charges"
        )
        return False


def _another_training(path: object, last: int, why: str) -> str:
    return (
        f"{path} holds another training, of {last} steps ({why}); give a new folder, or continue it all the same with "
        "Monitor(…, resume=True)"
    )


def open_store(path: str | Path | None, content: Mapping[str, Any]) -> RunStore | MemoryStore:
    """The store at a path, or one in memory."""
    return MemoryStore(content) if path is None else RunStore.open(path, content)


def run_content(
    model: nn.Module, optimizer: Optimizer, symmetries: Symmetries, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.json` holds: configuration, origin, symmetries."""
    groups = [
        {key: _plain(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    configuration = {
        "monitor": dict(options),
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": {"name": type(optimizer).__name__, "groups": groups},
    }
    return {"configuration": configuration, "origin": provenance(), "symmetries": symmetries.to_dict()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
