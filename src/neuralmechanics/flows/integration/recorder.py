"""The loop that walks every trajectory, and the record of its states that becomes the path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.switching.activation_pattern import activation_pattern, count_changes
from neuralmechanics.progress import Meter, SilentMeter

__all__ = ["Recorder", "Visit", "follow"]


@dataclass(frozen=True)
class Visit:
    """A time that a trajectory has come to, the state there, and the estimated error of its parameters.

    The state is None where nothing is to be recorded: the meter alone hears of it.
    """

    time: float
    state: Tensor | None = None
    error: float = math.nan


class Recorder:
    """Parameters, losses, charges and activation patterns at each time that was reached."""

    def __init__(
        self, loss: Loss, label: str, layout: Layout, symmetries: Charges | None, beside: tuple[str, ...] = ()
    ) -> None:
        self.loss = loss
        self.label = label
        self.layout = layout
        self.symmetries = symmetries
        self.beside = beside
        self.losses: list[float] = []
        self._times: list[float] = []
        self._states: list[Tensor] = []
        self._charges: list[Tensor] = []
        self._errors: list[float] = []
        self._changes: list[int] = []
        self._pattern: Tensor | None = None

    def record(self, time: float, state: Tensor, error: float) -> None:
        """Keep one state; computes the loss there without derivatives."""
        point = state.detach()[: self.layout.size]
        params = self.layout.unflatten(point)
        self.losses.append(Objective(self.loss, self.layout).value(point))
        # A loss that had no rectifier at the start has none later.
        pattern = activation_pattern(self.loss, params) if not self._times or self._pattern is not None else None
        self._changes.append(count_changes(self._pattern, pattern))
        self._pattern = pattern
        if self.symmetries is not None:
            self._charges.append(self.symmetries.charge(params).detach().to(torch.float64))
        self._times.append(time)
        # What a state holds beyond these, such as the velocity of a second-order flow, is no part of the path.
        self._states.append(state.detach()[: self.layout.size * (1 + len(self.beside))])
        self._errors.append(error)

    def path(self, evaluations: int, reason: StopReason, message: str) -> Path:
        """All that was recorded."""
        layout = self.layout
        count = len(self._times)
        width = layout.size * (1 + len(self.beside))
        states = torch.stack(self._states) if count else torch.empty(0, width, dtype=torch.float64)
        params, *held = [self._named(block) for block in torch.split(states, layout.size, dim=1)]
        return Path(
            times=torch.tensor(self._times, dtype=torch.float64),
            params=params,
            losses=torch.tensor(self.losses, dtype=torch.float64),
            charges=torch.stack(self._charges) if self._charges else None,
            evaluations=evaluations,
            reason=reason,
            message=message,
            error_estimate=torch.tensor(self._errors, dtype=torch.float64),
            pattern_changes=torch.tensor(self._changes, dtype=torch.int64) if self._pattern is not None else None,
            label=self.label,
            companions=dict(zip(self.beside, held, strict=True)),
        )

    def _named(self, states: Tensor) -> dict[str, Tensor]:
        """Vectors as rows, by the names of the parameters."""
        layout = self.layout
        parts = torch.split(states, [shape.numel() for shape in layout.shapes], dim=1)
        return {
            name: part.reshape(len(states), *shape)
            for name, part, shape in zip(layout.names, parts, layout.shapes, strict=True)
        }


def follow(
    visits: Iterator[Visit],
    recorder: Recorder,
    guard: Guard,
    *,
    steps: int,
    meter: Meter | None,
    completed: str = "all times reached",
) -> Path:
    """The path through all ``visits``, of which the first is the start, or as far as they came, with the reason why.

    A ``Halt`` on the way ends the path with its reason, a ``StopIteration`` of the meter as the caller's wish. Every
    visit but the start counts as one of the meter's ``steps``.
    """
    listener = meter or SilentMeter()
    listener.start(steps, recorder.label)
    reason, message = StopReason.COMPLETED, completed
    try:
        for number, visit in enumerate(visits):
            scalars = {"time": visit.time}
            if visit.state is not None:
                recorder.record(visit.time, visit.state, visit.error)
                scalars["loss"] = recorder.losses[-1]
            if number:
                listener.advance(1, **scalars)
    except Halt as halt:
        reason, message = halt.reason, halt.message
    except StopIteration:
        reason, message = StopReason.STOPPED, "the meter asked to stop"
    finally:
        # Whatever the reason: a bar that is left open would garble what is printed next.
        listener.finish()
    return recorder.path(guard.evaluations, reason, message)
