"""What the laws were fed at every step of a run, as `laws.replay` takes it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch

from neuralmechanics.laws import DriveHistory, Drives, Hyperparameters
from neuralmechanics.monitor.reading.dataset import current_drives
from neuralmechanics.monitor.store.merging import stacked
from neuralmechanics.monitor.store.shards.record import HYPERPARAMETERS
from neuralmechanics.monitor.store.shards.schema import DRIVE_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.symmetry import Symmetries

_FLAGS = {"nesterov", "decoupled", "first_step", "active"}


def drive_history(source: RunSource, symmetries: Symmetries) -> DriveHistory:
    """All steps from the start of the run. Raises ValueError when drives were not stored, or steps are missing."""
    parts = current_drives(source)
    if not parts:
        raise ValueError(f"run {source.path} holds no drives; record it with Monitor(…, drives=True)")
    steps = stacked(parts, f"{DRIVE_PREFIX}step").astype(np.int64)
    if not np.array_equal(steps, np.arange(1, len(steps) + 1)):
        gap = int(np.flatnonzero(steps != np.arange(1, len(steps) + 1))[0]) + 1
        raise ValueError(f"run {source.path} has no drives of step {gap}: a law cannot be replayed across the gap")
    start = source.segments[0].start
    measured = {
        field.name: torch.from_numpy(np.array(stacked(parts, DRIVE_PREFIX + field.name)))
        for field in fields(Drives)
        if any(DRIVE_PREFIX + field.name in part for part in parts)
    }
    return DriveHistory(
        charge0=torch.from_numpy(np.array(start["charge"])),
        hyperparameters=_hyperparameters(parts, len(steps)),
        drives=Drives(**measured),
        quadratic=symmetries.quadratic,
        companion0=torch.from_numpy(np.array(start["companion"])) if "companion" in start else None,
    )


def _hyperparameters(parts: list[Arrays], steps: int) -> list[Hyperparameters]:
    columns = {name: stacked(parts, DRIVE_PREFIX + name) for name in HYPERPARAMETERS}
    return [
        Hyperparameters(**{name: _value(name, column[k]) for name, column in columns.items()}) for k in range(steps)
    ]


def _value(name: str, row: np.ndarray[Any, Any]) -> Any:
    """A number where one serves all charges, else one entry a charge."""
    if len(row) == 1 and not np.isnan(row[0]):
        return bool(row[0]) if name in _FLAGS else float(row[0])
    values = torch.from_numpy(row.copy())
    return values.bool() if name in _FLAGS else values
