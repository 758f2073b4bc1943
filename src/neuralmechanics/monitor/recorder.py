"""From a followed training to a store: what is written when, and where a resumed run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.follow import Follower
from neuralmechanics.monitor.memory import MemoryStore
from neuralmechanics.monitor.provenance import provenance
from neuralmechanics.monitor.record import Record, StepDrives, drive_arrays
from neuralmechanics.monitor.shard import Arrays
from neuralmechanics.monitor.store import STATE_PREFIX, RunStore
from neuralmechanics.monitor.warning import announce
from neuralmechanics.symmetry import Symmetries

# Charges recomputed from a checkpoint differ by the order of a float64 sum, not more.
_SAME = 1e-12


class Recorder:
    """Holds the last record until its scalars are in, then writes it."""

    def __init__(self, store: RunStore | MemoryStore, *, drives: bool) -> None:
        self.store = store
        self.recorded_step: int | None = None
        self._drives = drives
        self._steps: list[StepDrives] = []
        self._held: Record | None = None
        self._scalars: dict[str, float | Tensor] = {}

    def begin(self, follower: Follower) -> None:
        """Open a segment at the follower's parameters: a new run, or a known record to go on from."""
        charge, companion = follower.charge(), follower.companion()
        scale = follower.scale()
        follower.begin(0, charge, companion)
        matched = not self.store.resumed
        if self.store.resumed:
            matched = self._continue(follower, charge, companion, scale)
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
        if self._held is None:
            return
        record, self._held = self._held, None
        steps, self._steps = self._steps, []
        scalars, self._scalars = self._scalars, {}
        self.store.append(record.arrays(scalars) | drive_arrays(steps))
        self.recorded_step = record.step

    def _continue(self, follower: Follower, charge: Tensor, companion: Tensor | None, scale: Tensor) -> bool:
        """Find the record that these parameters are of, and restore the laws from it."""
        here, size = charge.cpu().numpy(), scale.cpu().numpy()
        last = 0
        for step, arrays in self.store.last_states():
            last = max(last, step)
            if bool(np.all(np.abs(arrays["charge"][0] - here) <= _SAME * size)):
                state = {
                    name.removeprefix(STATE_PREFIX): torch.from_numpy(array.copy()).to(charge.device)
                    for name, array in arrays.items()
                    if name.startswith(STATE_PREFIX)
                }
                follower.begin(step, charge, companion)
                follower.restore(state)
                return True
        follower.begin(last, charge, companion)
        announce(
            f"these parameters are of no record in {self.store.path}, whose last step is {last}: the run continues "
            "there, with every law started anew from the present charges"
        )
        return False


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
