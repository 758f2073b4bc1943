"""Learning rate, momentum and batch size as pure functions of how far a training has come.

At each milestone the annealings of theory 4 replace (η, β, B):

- ``drops``:           η → factor·η
- ``double-batch``:    B → 2B, β → √((1+β²)/2), η → 2η(1-β')/(1-β)
- ``linear-scaling``:  B → 2B, η → 2η
- ``halve``:           η → η/2, β → (1+β)/2 (the time step η/(1-β) stays)

Pure functions of progress, so that a resumed training continues exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sqrt

from neuralmechanics.experiments.config import ScheduleConfig
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd


@dataclass(frozen=True)
class Hyper:
    """Learning rate η, momentum β and batch size B of one step."""

    learning_rate: float
    momentum: float
    batch_size: int

    def time_step(self, dampening: float) -> float:
        """Natural time h of one step of SGD."""
        return Sgd(self.learning_rate, momentum=self.momentum, dampening=dampening).time_step


@dataclass(frozen=True)
class Progress:
    """How far a training has come when a step begins."""

    step: int
    epoch: float
    done: float
    """fraction of the whole training"""
    epochs_per_step: float = 0.0


def hyper_at(schedule: ScheduleConfig, start: Hyper, progress: Progress) -> Hyper:
    """(η, β, B) for the step that begins at `progress`, where training began with `start`.

    >>> schedule = ScheduleConfig("drops", milestones=(2.0,), factor=0.1)
    >>> hyper_at(schedule, Hyper(0.5, 0.9, 64), Progress(step=20, epoch=2.0, done=0.5)).learning_rate
    0.05
    """
    in_steps = schedule.unit == "step"
    at = float(progress.step) if in_steps else progress.epoch
    hyper = start
    # Slack against rounding only: epochs are ratios of integers, milestones are exact.
    for _ in (milestone for milestone in schedule.milestones if at >= milestone - 1e-9):
        hyper = _anneal(schedule, hyper)
    rate = hyper.learning_rate * _ramp(schedule, progress.done)
    if schedule.warmup > 0:
        # Counts the step about to be made, so that none is lost to a rate of zero.
        rate *= min(1.0, (at + (1.0 if in_steps else progress.epochs_per_step)) / schedule.warmup)
    return Hyper(rate, hyper.momentum, hyper.batch_size)


def _anneal(schedule: ScheduleConfig, hyper: Hyper) -> Hyper:
    rate, beta, batch = hyper.learning_rate, hyper.momentum, hyper.batch_size
    if schedule.name == "double-batch":
        slower = sqrt((1 + beta**2) / 2)
        return Hyper(2 * rate * (1 - slower) / (1 - beta), slower, 2 * batch)
    if schedule.name == "linear-scaling":
        return Hyper(2 * rate, beta, 2 * batch)
    if schedule.name == "halve":
        return Hyper(rate / 2, (1 + beta) / 2, batch)
    return Hyper(rate * schedule.factor, beta, batch)


def _ramp(schedule: ScheduleConfig, done: float) -> float:
    if schedule.name == "cosine":
        return schedule.factor + (1 - schedule.factor) * (1 + cos(pi * done)) / 2
    if schedule.name == "linear":
        return 1 + (schedule.factor - 1) * done
    return 1.0
