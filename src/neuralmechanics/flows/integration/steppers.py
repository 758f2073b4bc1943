"""One step of each fixed-step method: Euler, midpoint, Runge-Kutta 4, Dormand-Prince 5 and 8, Gauss 2 and 4."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.integration.dop853_coefficients import ROWS, WEIGHTS

__all__ = ["STEPPERS", "Stepper"]


@dataclass(frozen=True)
class Stepper:
    """x ↦ x(t + h) with the order of its global error."""

    order: int
    step: Callable[[Field, Tensor, float], Tensor]


def _explicit(rows: list[list[float]], weights: list[float]) -> Callable[[Field, Tensor, float], Tensor]:
    def step(field: Field, x: Tensor, h: float) -> Tensor:
        slopes: list[Tensor] = []
        for row in rows:
            point = x
            for a, k in zip(row, slopes, strict=True):
                if a:
                    point = torch.add(point, k, alpha=h * a)
            slopes.append(field(point))
        for b, k in zip(weights, slopes, strict=True):
            if b:
                x = torch.add(x, k, alpha=h * b)
        return x

    return step


def _full(row: dict[int, float], length: int) -> list[float]:
    return [row.get(stage, 0.0) for stage in range(length)]


# A Gauss step is solved by fixed-point iteration until rounding stops the progress: only then are quadratic
# charges kept to rounding. It contracts when h·curvature is below about 1.
_ITERATIONS = 200


def _gauss(matrix: list[list[float]], weights: list[float]) -> Callable[[Field, Tensor, float], Tensor]:
    a = torch.tensor(matrix, dtype=torch.float64)
    b = torch.tensor(weights, dtype=torch.float64)

    def step(field: Field, x: Tensor, h: float) -> Tensor:
        coupling = h * a.to(x.device)
        # All stages begin with the slope at the start of the step.
        slopes = field(x).expand(len(weights), -1)
        last = math.inf
        for _ in range(_ITERATIONS):
            points = x + coupling @ slopes
            updated = torch.stack([field(point) for point in points])
            change = float((updated - slopes).abs().max()) * h
            slopes = updated
            # Diverged: more iterations of a growing error give nothing.
            if not math.isfinite(change):
                break
            # Near the end only the field's own rounding is left, and the changes no longer shrink.
            resolution = 64 * torch.finfo(x.dtype).eps * (1 + float(x.abs().max()))
            if change == 0 or (change <= resolution and change >= last / 2):
                return x + h * (b.to(x.device) @ slopes)
            last = change
        raise Halt(
            StopReason.NOT_CONVERGED,
            f"the stages of a Gauss step of {h:.3g} did not converge in {_ITERATIONS} iterations "
            f"(last change {change:.3g}): shorten step, or use method='rk4' where the field has kinks",
        )

    return step


# Gauss's two nodes are ½ ± √3/6.
_ROOT = math.sqrt(3) / 6
_DORMAND_PRINCE = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
]
DORMAND_PRINCE_WEIGHTS = [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]
DORMAND_PRINCE_ROWS = _DORMAND_PRINCE

STEPPERS: dict[str, Stepper] = {
    "euler": Stepper(1, _explicit([[]], [1.0])),
    "midpoint": Stepper(2, _explicit([[], [0.5]], [0.0, 1.0])),
    "rk4": Stepper(4, _explicit([[], [0.5], [0.0, 0.5], [0.0, 0.0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6])),
    "dopri5-fixed": Stepper(5, _explicit(_DORMAND_PRINCE, DORMAND_PRINCE_WEIGHTS)),
    "dop853-fixed": Stepper(8, _explicit([_full(row, stage) for stage, row in enumerate(ROWS)], _full(WEIGHTS, 12))),
    "gauss2": Stepper(2, _gauss([[0.5]], [1.0])),
    "gauss4": Stepper(4, _gauss([[0.25, 0.25 - _ROOT], [0.25 + _ROOT, 0.25]], [0.5, 0.5])),
}
