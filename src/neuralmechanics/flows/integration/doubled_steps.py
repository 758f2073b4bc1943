"""An adaptive method's own steps taken two at a time: where that leads says how far off the steps themselves are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field

__all__ = ["DoubledSteps"]


class _Reached(Protocol):
    @property
    def end(self) -> Tensor: ...

    @property
    def slopes(self) -> list[Tensor]: ...


class DoubledSteps:
    """The run whose steps are two of the followed run's each, and the global error that their distance gives.

    With h, k the two lengths and p the order, the followed run is off by r/(1 - r) of the distance, r the share of
    Σ(h^{p+1} + k^{p+1}) in Σ(h + k)^{p+1}, which is 2^{-p} for equal steps. Costs half as much again.
    """

    def __init__(
        self, trial: Callable[[Field, Tensor, Tensor, float], _Reached], order: int, start: Tensor, size: int
    ) -> None:
        self.trial, self.order, self.state, self.size = trial, order, start, size
        self.error: float | None = None
        self._lost = False
        self._waiting: float | None = None
        self._slope: Tensor | None = None
        self._fine = self._coarse = 0.0

    def follow(self, field: Field, h: float, end: Tensor, *, last: bool) -> None:
        """The followed run has taken a step of length h to ``end``, the ``last`` one of all or not."""
        if self._lost:
            return
        if self._waiting is None and not last:
            self._waiting = h
            return
        # The last one may be without a partner.
        parts = [h] if self._waiting is None else [self._waiting, h]
        self._waiting = None
        self._step(field, sum(parts), sum(part ** (self.order + 1) for part in parts))
        share = self._fine / self._coarse if self._coarse else 1.0
        # A run of one step has nothing to be compared with.
        if not self._lost and share < 1:
            distance = float((end[: self.size] - self.state[: self.size]).abs().max())
            self.error = distance * share / (1 - share)

    def finish_piece(self, field: Field) -> None:
        """The field changes here: a step without a partner is taken as it is."""
        if self._waiting is not None and not self._lost:
            h, self._waiting = self._waiting, None
            self._step(field, h, h ** (self.order + 1))
        self._slope = None

    def _step(self, field: Field, length: float, fine: float) -> None:
        try:
            slope = field(self.state) if self._slope is None else self._slope
            reached = self.trial(field, self.state, slope, length)
        except Halt as halt:
            # The cap is the caller's and ends both; a field that has no value here says nothing of the run.
            if halt.reason is StopReason.EVALUATIONS:
                raise
            self._lost, self.error = True, None
            return
        # Twice the step may lie beyond the border of stability.
        self._lost = not bool(torch.isfinite(reached.end).all())
        if self._lost:
            self.error = None
            return
        # The last slope of a step is the first of the next, until the field changes.
        self.state, self._slope = reached.end, reached.slopes[-1]
        self._fine += fine
        self._coarse += length ** (self.order + 1)
