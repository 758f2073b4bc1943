"""An adaptive method's own steps halved: what that changes is the error of the steps themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field

__all__ = ["HalvedSteps"]


class _Reached(Protocol):
    @property
    def end(self) -> Tensor: ...

    @property
    def slopes(self) -> list[Tensor]: ...

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor: ...


class HalvedSteps:
    """The run that takes two steps for each of the followed run's: its own error is smaller, by 2^p at order p.

    So the distance between the two is the followed run's error, whatever the order that its steps have: it would be
    half of it at order 1. A run with *longer* steps costs a quarter as much, but its distance must be divided by the
    2^p of an order that long steps do not have, by which it said a twenty-fourth of the error.
    """

    def __init__(self, trial: Callable[[Field, Tensor, Tensor, float], _Reached], start: Tensor, size: int) -> None:
        self.trial, self.state, self.size = trial, start, size
        self._lost = False
        self._slope: Tensor | None = None
        self._halves: list[tuple[Tensor, _Reached]] = []
        self._half = 0.0

    def follow(self, field: Field, h: float) -> None:
        """The followed run has taken a step of length h."""
        self._half, self._halves = h / 2, []
        for _ in range(2):
            if not self._lost:
                self._step(field)

    def finish_piece(self) -> None:
        """The field changes here, and the slope with it."""
        self._slope = None

    def distance(self, fraction: float, followed: Tensor) -> float | None:
        """How far the followed run is off after this ``fraction`` of its last step, in the largest parameter.

        None once the halved steps have come to where the field has no value, though the steps themselves have not.
        """
        if self._lost:
            return None
        if fraction == 1:
            state = self.state
        else:
            second = fraction >= 0.5
            start, step = self._halves[second]
            state = step.between(start, self._half, 2 * fraction - second)
        return float((followed[: self.size] - state[: self.size]).abs().max())

    def _step(self, field: Field) -> None:
        try:
            slope = field(self.state) if self._slope is None else self._slope
            reached = self.trial(field, self.state, slope, self._half)
        except Halt as halt:
            # The cap is the caller's and ends both; a field that has no value here says nothing of the run.
            if halt.reason is StopReason.EVALUATIONS:
                raise
            self._lost = True
            return
        self._lost = not bool(torch.isfinite(reached.end).all())
        self._halves.append((self.state, reached))
        # The last slope of a step is the first of the next, until the field changes.
        self.state, self._slope = reached.end, reached.slopes[-1]
