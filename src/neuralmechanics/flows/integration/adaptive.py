"""Adaptive steps of an embedded Runge-Kutta pair: dense output, stops at kinks, and a diagnosis when they get stuck."""

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
from neuralmechanics.flows.integration.halved_steps import HalvedSteps
from neuralmechanics.flows.integration.recorder import Visit
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive

__all__ = ["Scheme", "Smooth", "Step", "Track", "adaptive_steps", "field_jump", "weighted_sum"]

# Relative change of the field within one step that a smooth field shows only at loose tolerances.
_JUMP = 0.5
_REMEMBERED = 40


class Step(Protocol):
    """One trial: where it leads, the slopes on the way, its local error, and the states in between."""

    @property
    def end(self) -> Tensor: ...

    @property
    def slopes(self) -> list[Tensor]:
        """The slopes at all stages, last of them that at the end."""
        ...

    @property
    def error(self) -> Tensor: ...

    @property
    def stiffness(self) -> float:
        """h times the steepest slope of the field."""
        ...

    @property
    def jump(self) -> float: ...

    def score(self, scale: Tensor) -> float:
        """The size of the local error relative to ``scale``, in root mean square: accepted up to 1."""
        ...

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor:
        """The interpolant at ``fraction`` of the step."""
        ...


@dataclass(frozen=True)
class Scheme:
    """A pair of Runge-Kutta methods: its trial step, the order of the local error, and how far |h·slope| may go.

    ``border`` is that beyond which a step sits near the border of the stability region; accuracy alone keeps it below.
    """

    trial: Callable[[Field, Tensor, Tensor, float], Step]
    error_order: int
    border: float


def weighted_sum(weights: list[float], slopes: list[Tensor]) -> Tensor:
    """Σ w_i k_i; vanishing weights cost nothing."""
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            total = torch.add(total, slope, alpha=weight)
    return total


def field_jump(slopes: list[Tensor]) -> float:
    """The largest change of the slope within a step, relative to the largest slope."""
    stacked = torch.stack(slopes)
    return float((stacked - slopes[0]).norm(dim=1).max() / stacked.norm(dim=1).max().clamp(min=1e-300))


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
    scheme: Scheme,
    track: Callable[[Field], Track] = Smooth,
    estimate_error: bool = False,
) -> Iterator[Visit]:
    """The states at each output time after the first, between steps by interpolation, with their estimated errors.

    A step is accepted when |error_i| / (atol + rtol·max(|x_i|, |x_i new|)) is at most 1 in root mean square.
    ``track`` makes, of the field of each piece, what says where a step must end. The estimate is the sum of local
    errors, of the order below; with ``estimate_error`` it is what halving all steps changes.
    """
    require_positive("rtol", rtol)
    require_positive("atol", atol)
    memory = _Memory()
    x = system.initial
    total_error = 0.0
    h = first_step
    wanted = iter(times[1:])
    target = next(wanted)
    size = system.layout.size
    halved = HalvedSteps(scheme.trial, x, size) if estimate_error else None
    try:
        for piece in system.pieces(times[0], times[-1]):
            field = guard.watch(piece.field)
            for part in _march(piece, track(field), x, h, guard, memory, scheme, rtol, atol):
                x, h = part.state, part.next_h
                total_error += float(part.step.error[:size].abs().max())
                if halved is not None:
                    halved.follow(field, part.h)
                # One step may pass several output times: dense output serves them all.
                while target <= part.end:
                    fraction = 1.0 if target == part.end else part.fraction(target)
                    state = x if target == part.end else part.at(target)
                    error = None if halved is None else halved.distance(fraction, state)
                    yield Visit(target, state, total_error if error is None else error)
                    following = next(wanted, None)
                    if following is None:
                        return
                    target = following
            if halved is not None:
                halved.finish_piece()
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

    def fraction(self, time: float) -> float:
        return (time - self.begin) / self.h

    def at(self, time: float) -> Tensor:
        return self.step.between(self.start, self.h, self.fraction(time))


def _march(
    piece: Piece,
    track: Track,
    x: Tensor,
    h: float | None,
    guard: Guard,
    memory: _Memory,
    scheme: Scheme,
    rtol: float,
    atol: float,
) -> Iterator[_Part]:
    """Accepted steps of one piece."""
    t = piece.start
    slope = guard.accept(track.start(x))
    if h is None:
        h = _first_step(x, slope, rtol, atol)
    # The local error is about C·h^order, so this power of the score is the factor at which it would be 1.
    shrunk, power = False, -1 / scheme.error_order
    while t < piece.end:
        used = track.reach(h)
        # A step that ended a rounding short of the end would leave one of length zero.
        last = t + used >= piece.end - 1e-12 * abs(piece.end)
        used = piece.end - t if last else used
        step = scheme.trial(track.field, x, slope, used)
        score = step.score(atol + rtol * torch.maximum(x.abs(), step.end.abs()))
        fine = math.isfinite(score)
        memory.accepted.append(fine and score <= 1)
        memory.jumped.append(step.jump > _JUMP)
        if fine and score <= 1:
            guard.accept(step.end)
            memory.at_border.append(step.stiffness > scheme.border)
            fraction, state, slope = track.passed(t, x, step, used)
            end = piece.end if last and fraction == 1 else t + fraction * used
            # Nine tenths of what the error would allow: a rejected step costs as much as one that counts.
            grow = min(1.0 if shrunk else 5.0, 0.9 * max(score, 1e-10) ** power)
            # A step that the piece's end or a kink cut short says little about what accuracy would allow.
            h = max(used * grow, h) if used < h else used * grow
            yield _Part(t, end, x, state, step, used, h)
            t, x, shrunk = end, state, False
            continue
        # The step after a rejection must not grow at once, or it would be rejected again.
        shrunk = True
        # Where the score is not finite nothing tells how much shorter the step must be.
        h = used * (max(0.2, 0.9 * score**power) if fine else 0.1)
        # A few roundings of t: a shorter step would not move the time at all.
        if h < 1e-14 * max(1.0, abs(t)):
            guard.accept(step.end)
            raise Halt(
                StopReason.STEP,
                f"the step fell to {h:.1e} at t={t:.6g} without meeting rtol={rtol:g}: loosen rtol and atol",
            )


def _first_step(x: Tensor, slope: Tensor, rtol: float, atol: float) -> float:
    # Hairer, Nørsett & Wanner, II.4: a hundredth of the time in which x would change by its own size.
    scale = atol + rtol * x.abs()
    size, speed = float((x / scale).square().mean().sqrt()), float((slope / scale).square().mean().sqrt())
    return 0.01 * size / speed if size > 1e-5 and speed > 1e-5 else 1e-6
