"""Records: from tensors on the device to the named arrays of a shard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.laws import Drives, Hyperparameters
from neuralmechanics.monitor.store.shards.compact import LAW_PREFIX
from neuralmechanics.monitor.store.shards.schema import (
    BUDGET_PREFIX,
    DRIVE_PREFIX,
    OBSERVED_PREFIX,
    ROTATION_PREFIX,
    SINCE,
    STATE_PREFIX,
)
from neuralmechanics.monitor.store.shards.shard import Arrays

HYPERPARAMETERS = tuple(f.name for f in fields(Hyperparameters))
HYPER_PREFIX = "hyper/"
SCALAR_PREFIX = "scalar/"


# What the dataset of a run, and its long table, call their own: a scalar of such a name is shown as scalar_<name>.
_TAKEN = frozenset(
    (
        "step",
        "charge",
        "law",
        "predicted",
        "residual",
        "outside",
        "time",
        "segment",
        "scale",
        "kind",
        "family",
        "label",
        "measured",
    )
)
_LONGEST_NAME = 200


def shown_name(name: str) -> str:
    """The name of a logged scalar in the dataset: its own, or scalar_<name> where that is taken."""
    return f"scalar_{name}" if name in _TAKEN or name in HYPERPARAMETERS else name


def scalar_problem(name: str, value: object) -> str | None:
    """Why a value cannot be logged under a name, in one line; None where it can."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        return f"log() takes names of 1 to {_LONGEST_NAME} printable characters, got {name[:40]!r}"
    other = name.removeprefix("scalar_")
    if other != name and shown_name(other) == name:
        return f"log({name}=…): that is the name under which {other!r} is shown; give another name"
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            what = "complex tensor" if value.is_complex() else "tensor"
            return f"log({name}=…) takes one number, got a {what} of shape {list(value.shape)}"
        return None
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return f"log({name}=…) takes one number, got {str(value)[:40]!r} of type {type(value).__name__}"
    return None


@dataclass(frozen=True, eq=False)
class Rotations:
    """The angular momentum of every rotation as measured and as the law has it, and |v||θ| that it is compared with."""

    measured: Tensor
    predicted: Tensor
    size: Tensor

    def arrays(self) -> Arrays:
        """One row each."""
        return {f"{ROTATION_PREFIX}{f.name}": _row(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, eq=False)
class Record:
    """Everything known after a step, still on the device: reading it is what waits."""

    step: int
    charge: Tensor
    predicted: Mapping[str, Tensor]
    residual: Tensor | None
    hyperparameters: Hyperparameters
    state: Mapping[str, Tensor]
    outside: Tensor | None = None
    """what moved the charges outside the optimiser since the record before; None where nothing did"""
    rotations: Rotations | None = None
    budget: Mapping[str, Tensor] = field(default_factory=dict)
    """what each cause did to every charge since the record before, which was that of step `since`"""
    since: int = 0
    observed: Arrays = field(default_factory=dict)
    """what was looked at in the loop beside the charges, one row each"""
    time: float = field(default_factory=time.time)

    def arrays(self, scalars: Mapping[str, float | Tensor]) -> Arrays:
        """One row of every variable. This is where the host waits for the device."""
        charge = _row(self.charge)
        out: Arrays = {
            "step": np.array([self.step], dtype=np.int64),
            "time": np.array([self.time]),
            "charge": charge,
            "residual": np.full_like(charge, np.nan) if self.residual is None else _row(self.residual),
        }
        if self.outside is not None:
            out["outside"] = _row(self.outside)
        out |= {} if self.rotations is None else self.rotations.arrays()
        out |= {f"{OBSERVED_PREFIX}{name}": row for name, row in self.observed.items()}
        budget = {f"{BUDGET_PREFIX}{name}": _row(value) for name, value in self.budget.items()}
        out |= {name: row for name, row in budget.items() if row.any()}
        out[SINCE] = np.array([self.since], dtype=np.int64)
        out |= {f"{LAW_PREFIX}{name}": _row(value) for name, value in self.predicted.items()}
        out |= {
            f"{HYPER_PREFIX}{name}": rows([getattr(self.hyperparameters, name)], charge.shape[1])
            for name in HYPERPARAMETERS
        }
        out |= {f"{SCALAR_PREFIX}{name}": np.array([float(value)]) for name, value in scalars.items()}
        out |= {f"{STATE_PREFIX}{name}": value.detach().cpu().numpy() for name, value in self.state.items()}
        return out


@dataclass(frozen=True, eq=False)
class StepDrives:
    """What the laws were fed at one step, kept until the next record."""

    step: int
    hyperparameters: Hyperparameters
    drives: Drives


def drive_arrays(steps: Sequence[StepDrives]) -> Arrays:
    """The steps since the last record, one row each; nan in the steps that did not need a drive."""
    if not steps:
        return {}
    out: Arrays = {f"{DRIVE_PREFIX}step": np.array([s.step for s in steps], dtype=np.int64)}
    charges = 0
    for name in (f.name for f in fields(Drives)):
        measured = [getattr(s.drives, name) for s in steps]
        some = next((m for m in measured if m is not None), None)
        if some is not None:
            nothing = torch.full_like(some, torch.nan)
            each = [nothing if m is None else m for m in measured]
            out[f"{DRIVE_PREFIX}{name}"] = torch.stack(each).detach().cpu().numpy()
            charges = some.shape[0]
    for name in HYPERPARAMETERS:
        out[f"{DRIVE_PREFIX}{name}"] = rows([getattr(s.hyperparameters, name) for s in steps], charges)
    return out


def rows(values: Sequence[float | bool | Tensor], charges: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """One row a value: of width 1 where all are numbers, else with one entry a charge."""
    arrays = [
        value.detach().double().cpu().numpy() if isinstance(value, Tensor) else np.float64(value) for value in values
    ]
    width = charges if any(np.ndim(a) for a in arrays) else 1
    return np.stack([np.broadcast_to(a, (width,)) for a in arrays])


def _row(value: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    row: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = value.detach().double().cpu().numpy()[None]
    return row
