"""Dormand-Prince 5(4) with adaptive steps, dense output, stops at kinks, and a diagnosis when it gets stuck."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field, Piece, System
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.recorder import Visit
from neuralmechanics.flows.integration.steppers import DORMAND_PRINCE_ROWS, DORMAND_PRINCE_WEIGHTS
from neuralmechanics.optimizers.bounds import require_positive

__all__ = ["Smooth", "Step", "Track", "adaptive_steps"]

# Fifth minus fourth order weights, and the continuous extension's: Hairer, Norsett, Wanner, Solving ODEs I, II.5-6.
_ERROR = [71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]
_DENSE = [
    -12715105075 / 11282082432,
    0.0,
    87487479700 / 32700410799,
    -10690763975 / 1880347072,
    701980252875 / 199316789632,
    -1453857185 / 822651844,
    69997945 / 29380423,
]
# |h·slope| beyond which a step sits near the border of the stability region, 3.3; accuracy alone keeps it below 1.
_STABILITY = 2.0
# Relative change of the field within one step that a smooth field shows only at loose tolerances.
_JUMP = 0.5
_REMEMBERED = 40


@dataclass(frozen=True)
class Step:
    """One trial: where it leads, the slope there, its local error, and what dense output needs."""

    end: Tensor
    slopes: list[Tensor]
    error: Tensor
    stiffness: float
    jump: float

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor:
        """The fourth-order interpolant at ``fraction`` of the step."""
        rise = self.end - start
        bend = h * self.slopes[0] - rise
        rest = rise - h * self.slopes[-1] - bend
        curve = h * _sum(_DENSE, self.slopes)
        left = 1 - fraction
        return start + fraction * (rise + left * (bend + fraction * (rest + left * curve)))


def _sum(weights: list[float], slopes: list[Tensor]) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            total = torch.add(total, slope, alpha=weight)
    return total


def _trial(field: Field, x: Tensor, first: Tensor, h: float) -> Step:
    slopes = [first]
    point = x
    for row in DORMAND_PRINCE_ROWS[1:]:
        point = torch.add(x, _sum(row, slopes), alpha=h)
        slopes.append(field(point))
    end = torch.add(x, _sum(DORMAND_PRINCE_WEIGHTS, slopes), alpha=h)
    slopes.append(field(end))
    # The last two stages lie at one time: their difference measures h times the steepest slope.
    spread = float(torch.linalg.vector_norm(end - point))
    bend = float(torch.linalg.vector_norm(slopes[-1] - slopes[-2]))
    stacked = torch.stack(slopes)
    jump = float((stacked - first).norm(dim=1).max() / stacked.norm(dim=1).max().clamp(min=1e-300))
    return Step(end, slopes, h * _sum(_ERROR, slopes), h * bend / spread if spread > 0 else 0.0, jump)


class Track(Protocol):
    """The field along one piece of an equation, and where along a step it ceases to be the one field."""

    def start(self, x: Tensor) -> Tensor:
        """The slope at x, where the piece begins."""
        ...

    def field(self, x: Tensor) -> Tensor:
        """The slope at x, on the branch that holds now."""
        ...

    def reach(self, h: float) -> float:
        """The longest trial worth taking when accuracy allows h."""
        ...

    def passed(self, t: float, x: Tensor, step: Step, h: float) -> tuple[float, Tensor, Tensor]:
        """The fraction of an accepted step that counts, the state there, and the slope that holds from there on."""
        ...


class Smooth:
    """A field without kinks: every accepted step counts in full."""

    def __init__(self, field: Field) -> None:
        self.field = self.start = field

    def reach(self, h: float) -> float:
        """All of it."""
        return h

    def passed(self, t: float, x: Tensor, step: Step, h: float) -> tuple[float, Tensor, Tensor]:
        """All of it; the last slope is the next one's first."""
        return 1.0, step.end, step.slopes[-1]


class _Memory:
    """The last trials: whether stability or rejections held the step down."""

    def __init__(self) -> None:
        self.accepted: deque[bool] = deque(maxlen=_REMEMBERED)
        self.at_border: deque[bool] = deque(maxlen=_REMEMBERED)
        self.jumped: deque[bool] = deque(maxlen=_REMEMBERED)

    def diagnose(self, halt: Halt) -> Halt:
        """The halt, with its cause named where the last steps show one."""
        borders = sum(self.at_border) / max(1, len(self.at_border))
        rejected = 1 - sum(self.accepted) / max(1, len(self.accepted))
        jumps = sum(self.jumped) / max(1, len(self.jumped))
        if halt.reason is StopReason.EVALUATIONS and borders > 0.5:
            return Halt(
                StopReason.STIFF,
                f"stiff: stability, not accuracy, set {borders:.0%} of the last steps. {halt.message}, "
                "or use a shorter horizon",
            )
        if halt.reason in (StopReason.EVALUATIONS, StopReason.STEP) and max(rejected, jumps) > 0.35:
            return Halt(
                StopReason.KINKED,
                f"kinked: of the last steps {rejected:.0%} were rejected and {jumps:.0%} saw the field jump. "
                f"{halt.message}; or use method='rk4' with fixed steps, which passes kinks",
            )
        return halt


def adaptive_steps(
    system: System,
    times: list[float],
    guard: Guard,
    *,
    rtol: float,
    atol: float,
    first_step: float | None,
    track: Callable[[Field], Track] = Smooth,
) -> Iterator[Visit]:
    """The states at each output time after the first, between steps by interpolation, with the sum of local errors.

    A step is accepted when |error_i| / (atol + rtol·max(|x_i|, |x_i new|)) is at most 1 in root mean square.
    ``track`` makes, of the field of each piece, what says where a step must end.
    """
    require_positive("rtol", rtol)
    require_positive("atol", atol)
    memory = _Memory()
    x = system.initial
    total_error = 0.0
    h = first_step
    wanted = iter(times[1:])
    target = next(wanted)
    try:
        for piece in system.pieces(times[0], times[-1]):
            for part in _march(piece, track(guard.watch(piece.field)), x, h, guard, memory, rtol, atol):
                x, h = part.state, part.next_h
                total_error += float(part.step.error[: system.layout.size].abs().max())
                # One step may pass several output times: dense output serves them all.
                while target <= part.end:
                    yield Visit(target, x if target == part.end else part.at(target), total_error)
                    following = next(wanted, None)
                    if following is None:
                        return
                    target = following
    except Halt as halt:
        raise memory.diagnose(halt) from None


@dataclass(frozen=True)
class _Part:
    """What counts of one accepted step: from ``begin`` at ``start`` to ``end`` at ``state``; the step's length is h."""

    begin: float
    end: float
    start: Tensor
    state: Tensor
    step: Step
    h: float
    next_h: float

    def at(self, time: float) -> Tensor:
        return self.step.between(self.start, self.h, (time - self.begin) / self.h)


def _march(
    piece: Piece, track: Track, x: Tensor, h: float | None, guard: Guard, memory: _Memory, rtol: float, atol: float
) -> Iterator[_Part]:
    """Accepted steps of one piece."""
    t = piece.start
    slope = guard.accept(track.start(x))
    if h is None:
        h = _first_step(x, slope, rtol, atol)
    shrunk = False
    while t < piece.end:
        used = track.reach(h)
        # A step that ended a rounding short of the end would leave one of length zero.
        last = t + used >= piece.end - 1e-12 * abs(piece.end)
        used = piece.end - t if last else used
        step = _trial(track.field, x, slope, used)
        score = _score(step.error, x, step.end, rtol, atol)
        fine = math.isfinite(score)
        memory.accepted.append(fine and score <= 1)
        memory.jumped.append(step.jump > _JUMP)
        if fine and score <= 1:
            guard.accept(step.end)
            memory.at_border.append(step.stiffness > _STABILITY)
            fraction, state, slope = track.passed(t, x, step, used)
            end = piece.end if last and fraction == 1 else t + fraction * used
            grow = min(1.0 if shrunk else 5.0, 0.9 * max(score, 1e-10) ** -0.2)
            # A step that the piece's end or a kink cut short says little about what accuracy would allow.
            h = max(used * grow, h) if used < h else used * grow
            yield _Part(t, end, x, state, step, used, h)
            t, x, shrunk = end, state, False
            continue
        # The step after a rejection must not grow at once, or it would be rejected again.
        shrunk = True
        h = used * (max(0.2, 0.9 * score**-0.2) if fine else 0.1)
        if h < 1e-14 * max(1.0, abs(t)):
            guard.accept(step.end)
            raise Halt(
                StopReason.STEP,
                f"the step fell to {h:.1e} at t={t:.6g} without meeting rtol={rtol:g}: loosen rtol and atol",
            )


def _score(error: Tensor, before: Tensor, after: Tensor, rtol: float, atol: float) -> float:
    scale = atol + rtol * torch.maximum(before.abs(), after.abs())
    return float((error / scale).square().mean().sqrt())


def _first_step(x: Tensor, slope: Tensor, rtol: float, atol: float) -> float:
    scale = atol + rtol * x.abs()
    size, speed = float((x / scale).square().mean().sqrt()), float((slope / scale).square().mean().sqrt())
    return 0.01 * size / speed if size > 1e-5 and speed > 1e-5 else 1e-6
