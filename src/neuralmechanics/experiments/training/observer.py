"""Whoever looks on at a training from inside: between the gradients of a step and the update they make."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from neuralmechanics.experiments.config import TrainConfig
    from neuralmechanics.experiments.data import Batches
    from neuralmechanics.experiments.losses import LossFunction
    from neuralmechanics.experiments.measuring.metrics import Metrics
    from neuralmechanics.experiments.training.plan import Plan


@dataclass(frozen=True, eq=False)
class Training:
    """The parts of one training in motion."""

    config: TrainConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: LossFunction
    batches: Batches
    plan: Plan
    metrics: Metrics
    out: Path | None


class Observer(Protocol):
    """Told of every step of a training, which it leaves as it is."""

    def watch(self, training: Training) -> AbstractContextManager[None]:
        """Entered before the first step and left after the last one, or when a step fails."""
        ...

    def before(self, step: int) -> None:
        """The gradients of a step are there and its update is not; `step` updates were made before it."""
        ...

    def after(self, step: int) -> None:
        """The update is made, the step's number is `step`, counted from 1."""
        ...
