"""Steps that end where a unit switches: the instant is located on the dense output, then the other branch holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.switching.branch import Branch

__all__ = ["DenseStep", "Events", "KinkTrack"]

# The instant of a crossing is located to this fraction of the step: the field's jump times that is lost.
_FRACTION = 1e-12
# A slide's score decays at this rate in units of the step: as fast as a stable step can follow.
_PULL = 0.5
# So many crossings in a row by so few comparisons, within so small a part of the time so far, go to and fro.
_WINDOW, _STANDSTILL, _FEW = 100, 0.05, 3


class DenseStep(Protocol):
    """What is asked of a step across kinks: where it leads, the slope there, and the states in between."""

    @property
    def end(self) -> Tensor: ...

    @property
    def slopes(self) -> list[Tensor]: ...

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor: ...


@dataclass
class Events:
    """The instants of all crossings of an integration, and how many of them began a slide."""

    times: list[float] = field(default_factory=list)
    slides: int = 0


class KinkTrack:
    """One branch after another of a field with kinks, with the crossings between them noted in ``events``."""

    def __init__(self, field: Field, loss: Loss, layout: Layout, events: Events) -> None:
        self.raw, self.loss, self.layout, self.events = field, loss, layout, events
        self.recent: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self.due = float("inf")
        self.alphas: list[float] = []
        self.here = self.floors = self.resolution = torch.empty(0, dtype=torch.float64)

    def start(self, x: Tensor) -> Tensor:
        """The slope at x; the choices of x hold from here on."""
        self.branch = Branch(self.raw, self.loss, self.layout, x)
        self.resolution = self.branch.floors
        self._arrive(self.branch.last_margins)
        return self.branch.first

    def field(self, x: Tensor) -> Tensor:
        """The slope at x with the choices held."""
        return self.branch.field(x)

    def reach(self, h: float) -> float:
        """The longest step worth trying: a little beyond the next expected crossing, h where none is expected."""
        reach = min(h, max(1.25 * self.due, 0.01 * h))
        self.branch.pull = _PULL / reach
        return reach

    def passed(self, t: float, x: Tensor, step: DenseStep, h: float) -> tuple[float, Tensor, Tensor]:
        """The fraction of a step up to its first crossing, where the branch is changed; the state and slope there."""
        branch, ends = self.branch, self.branch.last_margins
        weights = self._weights(step, x, h)

        def at(fraction: float) -> Tensor:
            return branch.margins(step.between(x, h, fraction), weights(fraction))

        # Past a crossing the step was taken on a branch that no longer holds: it is cut there.
        bracket = self._first_crossing(at, ends)
        if bracket is None:
            self._foretell(ends, h)
            self.here, self.alphas = ends, list(branch.alphas)
            self.floors = torch.where(ends >= 0, self.resolution, self.floors)
            return 1.0, step.end, step.slopes[-1]
        fraction = self._locate(at, *bracket)
        state, margins, time = step.between(x, h, fraction), at(fraction), t + fraction * h
        over = (margins < 0) & ((self.here >= 0) | (margins < self.floors))
        # What reaches the border within rounding of the same instant crosses with it, such as equal patches.
        over |= (margins < -self.resolution) & (self.here > -4 * self.resolution)
        crossed = torch.nonzero(over)[:, 0].tolist()
        self._note(time, crossed)
        self._foretell(margins, fraction * h)
        sliding = len(branch.slides)
        branch.alphas = weights(fraction)
        slope = branch.cross(state, crossed)
        self.events.slides += max(0, len(branch.slides) - sliding)
        self._arrive(branch.last_margins)
        return fraction, state, slope

    def _weights(self, step: DenseStep, x: Tensor, h: float) -> Callable[[float], list[float]]:
        """The weights of the slides along a step: the parabola through start, middle and end."""
        if not self.branch.slides:
            return lambda fraction: []
        first, last = self.alphas, list(self.branch.alphas)
        self.branch.alphas = [(a + b) / 2 for a, b in zip(first, last, strict=True)]
        # Solving is dear: three solutions stand for the weights along the step.
        middle = self.branch.solve(step.between(x, h, 0.5))
        self.branch.alphas = last

        def weights(s: float) -> list[float]:
            return [
                a + s * (4 * m - 3 * a - b) + 2 * s**2 * (a - 2 * m + b)
                for a, m, b in zip(first, middle, last, strict=True)
            ]

        return weights

    def _arrive(self, margins: Tensor) -> None:
        """Begins a branch at its margins; one that starts a rounding behind its border may come back from there."""
        self.here, self.alphas = margins, list(self.branch.alphas)
        self.floors = torch.where(margins >= 0, self.resolution, 2 * margins + self.resolution)

    def _foretell(self, margins: Tensor, elapsed: float) -> None:
        """Estimates when the next margin reaches zero, by the secant through the last step."""
        if elapsed <= 0:
            return
        falling = (self.here - margins) / elapsed
        ahead = torch.where((falling > 0) & (margins > 0), margins / falling, torch.inf)
        self.due = float(ahead.min()) if len(ahead) else float("inf")

    def _first_crossing(self, at: Callable[[float], Tensor], ends: Tensor) -> tuple[float, float] | None:
        """Fractions of the step between which some margin falls below its floor for the first time.

        Looked at are the middle, the end, and the lowest point of the parabola through start, middle and end of any
        margin that dips below zero in between: a unit that switches and comes back within one step.
        """
        middle = at(0.5)
        last = 0.5 if bool((middle < self.floors).any()) else 1.0
        # The parabola is here + lean·s + bend·s², with its lowest point at -lean/(2 bend).
        bend = 2 * (self.here - 2 * middle + ends)
        lean = 4 * middle - 3 * self.here - ends
        lowest = torch.where(bend > 0, -lean / (2 * bend), -1.0)
        depth = self.here - lean.square() / (4 * bend)
        dips = (lowest > 0) & (lowest < last) & (depth < self.floors)
        if bool(dips.any()):
            fraction = float(lowest[torch.where(dips, depth, torch.inf).argmin()])
            if bool((at(fraction) < self.floors).any()):
                return 0.0, fraction
        if last == 0.5:
            return 0.0, 0.5
        return (0.5, 1.0) if bool((ends < self.floors).any()) else None

    def _locate(self, at: Callable[[float], Tensor], low: float, high: float) -> float:
        """The first fraction at which some margin is below its floor: secants of those that are, and bisection.

        Each margin has a secant of its own and the earliest root counts; their minimum is no function for secants.
        """
        above, below = at(low) - self.floors, at(high) - self.floors
        side, width, kept = 0, high - low, (1.0, 1.0)
        for iteration in range(150):
            if high - low <= _FRACTION:
                break
            fallen = below < 0
            # Secants with Illinois weights: an end that stays counts half, or it would stay for ever.
            lead, lack = kept[0] * above[fallen].clamp(min=0), -kept[1] * below[fallen]
            guess = low + (high - low) * float((lead / (lead + lack)).min())
            # Every fourth guess is a bisection, unless the three before it did as well as that.
            if iteration % 4 == 3:
                guess, width = (guess if high - low < width / 4 else (low + high) / 2), high - low
            # Close to either end, step over the root: the bracket must shrink from both sides.
            guess = min(max(guess, low + 0.3 * _FRACTION), high - 0.3 * _FRACTION)
            value = at(guess) - self.floors
            if bool((value < 0).any()):
                high, below = guess, value
                kept, side = (kept[0] / 2 if side == -1 else 1.0, 1.0), -1
            else:
                low, above = guess, value
                kept, side = (1.0, kept[1] / 2 if side == 1 else 1.0), 1
        return high

    def _note(self, time: float, crossed: list[int]) -> None:
        self.events.times.append(time)
        self.recent.extend((time, index) for index in crossed)
        first = self.recent[0][0]
        if (
            len(self.recent) == _WINDOW
            and time - first <= _STANDSTILL * (time - self.events.times[0])
            and len({index for _, index in self.recent}) <= _FEW
        ):
            raise Halt(
                StopReason.CHATTERING,
                f"chattering: {len({index for _, index in self.recent})} units switched {_WINDOW} times within "
                f"{time - first:.1e} at t={time:.6g}; use method='rk4', which steps over it",
            )
