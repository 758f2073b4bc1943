"""The course of a training before it starts: hyperparameters at every position, and where it ends."""

from __future__ import annotations

from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.experiments.data import Position, advance
from neuralmechanics.experiments.training.schedule import Hyper, Progress, hyper_at


class Plan:
    """Everything that a training's position decides; a pure function of configuration and number of examples."""

    def __init__(self, config: TrainConfig, examples: int) -> None:
        self._config = config
        self._examples = examples
        optimizer = config.optimizer
        self._start = Hyper(optimizer.learning_rate, optimizer.momentum, config.batch_size)

    def hyper(self, position: Position) -> Hyper:
        """Learning rate, momentum and batch size of the step that begins at `position`."""
        passes = self._config.batch_size / self._examples
        progress = Progress(position.step, self.epoch(position), min(1.0, self.done(position)), passes)
        return hyper_at(self._config.schedule, self._start, progress)

    def epoch(self, position: Position) -> float:
        """Passes over the data made so far."""
        return position.epoch + position.offset / self._examples

    def done(self, position: Position) -> float:
        """Fraction of the training made so far; at least 1 at the end."""
        if self._config.steps is not None:
            return position.step / self._config.steps
        return self.epoch(position) / self._config.epochs

    def ended(self, position: Position) -> bool:
        """Whether no step begins at `position`."""
        return self.done(position) >= 1

    def total_steps(self) -> int:
        """Number of optimiser steps of the whole training (batch sizes may grow, so the course is walked)."""
        if self._config.steps is not None:
            return self._config.steps
        # A schedule may enlarge batches, so the steps of an epoch are not known beforehand.
        position = Position()
        while not self.ended(position):
            position = advance(position, self.hyper(position).batch_size, self._examples)
        return position.step
