"""From a followed training to a store: what is written when, and where a resumed run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.follow import Follower
from neuralmechanics.monitor.memory import MemoryStore
from neuralmechanics.monitor.provenance import provenance
from neuralmechanics.monitor.record import Record, StepDrives, drive_arrays
from neuralmechanics.monitor.shard import Arrays
from neuralmechanics.monitor.store import STATE_PREFIX, RunStore
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.symmetry import Symmetries

# Charges recomputed from a checkpoint differ by the order of a float64 sum, not more.
_SAME = 1e-12


class Recorder:
    """Holds the last record until its scalars are in, then writes it."""

    def __init__(
        self, store: RunStore | MemoryStore, notes: Notes, *, drives: bool, resume: bool | int = False
    ) -> None:
        self.store = store
        self.notes = notes
        self._resume = resume
        self._loaded: Mapping[str, Any] | None = None
        self.recorded_step: int | None = None
        self._drives = drives
        self._steps: list[StepDrives] = []
        self._held: Record | None = None
        self._scalars: dict[str, float | Tensor] = {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on, when the training begins, from the state of a monitor that was saved with a checkpoint."""
        self._loaded = state

    def begin(self, follower: Follower) -> None:
        """Open a segment at the follower's parameters: a new run, a known record, or a saved state to go on from."""
        charge, companion, scale = follower.charge(), follower.companion(), follower.scale()
        follower.begin(0, charge, companion, scale)
        matched = not self.store.resumed
        if self.store.resumed or self._loaded is not None:
            step, state = self._found(charge, scale)
            follower.begin(step, charge, companion, scale)
            matched = state is not None
            if state is not None:
                follower.restore(state)
        info = {"start_step": follower.step, "continued": matched, "time": time.time(), **provenance()}
        start: Arrays = {"charge": charge.cpu().numpy(), "scale": scale.cpu().numpy()}
        if companion is not None:
            start["companion"] = companion.cpu().numpy()
        self.store.begin_segment(info, start)
        self.hold(follower.record())

    def log(self, scalars: Mapping[str, float | Tensor]) -> None:
        """Keep numbers for the next record that is written."""
        for name, value in scalars.items():
            if isinstance(value, Tensor) and value.numel() != 1:
                raise ValueError(f"log({name}=…) takes one number, got a tensor of shape {list(value.shape)}")
            self._scalars[name] = value.detach().clone() if isinstance(value, Tensor) else float(value)

    def keep(self, step: StepDrives) -> None:
        """Keep what the laws were fed, where drives are stored."""
        if self._drives:
            self._steps.append(step)

    def hold(self, record: Record) -> None:
        """Take a record, to be written by the next `flush`."""
        self._held = record

    def flush(self) -> None:
        """Write the held record; it is safe on the disk when this returns."""
        if self.store.begun:
            self.notes.write(self.store.note)
        if self._held is None:
            return
        record, self._held = self._held, None
        steps, self._steps = self._steps, []
        scalars, self._scalars = self._scalars, {}
        self.store.append(record.arrays(scalars) | drive_arrays(steps))
        self.recorded_step = record.step

    def _found(self, charge: Tensor, scale: Tensor) -> tuple[int, dict[str, Tensor] | None]:
        """The step that these parameters are of and the laws' state there, None where only the step is known.

        From the state that was loaded, else from the records. Raises ValueError where neither is theirs, or
        where the step that was given is not the one that is found.
        """
        if self._loaded is not None:
            state = self._loaded
            if not _agree(state["charge"].to(charge), charge, scale):
                raise ValueError(
                    f"the state that was loaded is of step {state['step']}, the parameters are of another; load "
                    "weights and monitor from the same checkpoint"
                )
            return int(state["step"]), {name: value.to(charge.device) for name, value in state["laws"].items()}
        given = None if self._resume is True else int(self._resume)
        last = 0
        for step, arrays in self.store.last_states():
            last = max(last, step)
            if given in (None, step) and _agree(torch.from_numpy(arrays["charge"][0]).to(charge), charge, scale):
                return step, {
                    name.removeprefix(STATE_PREFIX): torch.from_numpy(array.copy()).to(charge.device)
                    for name, array in arrays.items()
                    if name.startswith(STATE_PREFIX)
                }
        if given is None:
            raise ValueError(
                f"these parameters are of no record in {self.store.path}, whose last step is {last}, so their step is "
                "unknown; give it as resume=STEP, or load a state_dict() that the monitor gave at the checkpoint"
            )
        return given, None


def _agree(known: Tensor, here: Tensor, scale: Tensor) -> bool:
    return known.shape == here.shape and bool(((known - here).abs() <= _SAME * scale).all())


def open_store(path: str | Path | None, content: Mapping[str, Any], *, resume: bool | int) -> RunStore | MemoryStore:
    """The store at a path, or one in memory. Raises ValueError for a run that is there and was not to be resumed."""
    if path is None:
        return MemoryStore(content)
    store = RunStore.open(path, content)
    if store.resumed and resume is False:
        raise ValueError(
            f"{path} holds a run already; give another folder for a new one, or resume=True to continue it"
        )
    return store


def run_content(
    model: nn.Module, optimizers: Sequence[Optimizer], symmetries: Symmetries, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.json` holds: configuration, origin, symmetries."""
    groups = [
        {key: _plain(value) for key, value in group.items() if key != "params"}
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]
    configuration = {
        "monitor": dict(options),
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": {"name": ", ".join(type(each).__name__ for each in optimizers), "groups": groups},
    }
    return {"configuration": configuration, "origin": provenance(), "symmetries": symmetries.to_dict()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
