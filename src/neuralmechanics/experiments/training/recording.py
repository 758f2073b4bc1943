"""A monitor on a training in motion: which symmetries, which store, which cadence."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralmechanics.experiments.config import TrainConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from neuralmechanics.experiments.losses import Batch, LossFunction


def attach_monitor(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LossFunction,
    batch: Batch,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool | int = False,
) -> AbstractContextManager[Any]:
    """The monitor that records the run in `out`; symmetries are found on `batch` without moving the model.

    `resume` is the step that a stored run is continued from. A model without any conserved charge
    leaves nothing to monitor: a warning and no monitor."""
    from neuralmechanics.experiments.training.followed import some_of_each
    from neuralmechanics.monitor import Monitor
    from neuralmechanics.symmetry import find_symmetries

    symmetries = some_of_each(find_symmetries(model, batch, loss), config.record.charges)
    if not symmetries.labels:
        warnings.warn(
            f"{config.model} with loss {config.loss} has no conserved charge; the training is not monitored",
            stacklevel=2,
        )
        return nullcontext()
    record = config.record
    monitor: AbstractContextManager[Any] = Monitor(
        model, optimizer, symmetries, store=out, every=record.every, residuals=record.residuals, resume=resume
    )
    return monitor
