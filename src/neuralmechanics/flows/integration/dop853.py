"""The pair of Dormand and Prince of orders 8 and 5(3), with an interpolant of order 7: for smooth fields."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.integration.adaptive import Scheme, field_jump
from neuralmechanics.flows.integration.dop853_coefficients import DENSE, FIFTH, INNER, ROWS, THIRD, WEIGHTS

__all__ = ["DOP853"]

# How much of the estimate of order 3 enters, where that of order 5 vanishes by chance.
_SHARE = 0.01


@dataclass(frozen=True)
class _Step:
    """One trial; the slopes between, which only dense output needs, are evaluated when they are asked for."""

    rule: Field
    end: Tensor
    slopes: list[Tensor]
    error: Tensor
    fifth: Tensor
    third: Tensor
    stiffness: float
    jump: float
    inner: list[Tensor] = field(default_factory=list)

    def score(self, scale: Tensor) -> float:
        """|e₅|²/√(|e₅|² + |e₃|²/100), each relative to ``scale`` in root mean square: of order 8 in the step."""
        return float(_combined(self.fifth / scale, self.third / scale)) / math.sqrt(len(scale))

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor:
        """The interpolant at ``fraction`` of the step; three evaluations the first time."""
        if not self.inner:
            self.inner.extend(self.slopes)
            for row in INNER:
                self.inner.append(self.rule(torch.add(start, _sum(row, self.inner), alpha=h)))
        # Hermite's cubic of both ends and slopes, then terms that vanish there with their derivatives.
        rise = self.end - start
        terms = [
            rise,
            h * self.slopes[0] - rise,
            2 * rise - h * (self.slopes[0] + self.slopes[-1]),
            *(h * _sum(row, self.inner) for row in DENSE),
        ]
        total = torch.zeros_like(start)
        # By Horner's rule, times s and 1 - s in turn.
        for position, term in enumerate(reversed(terms)):
            total = (total + term) * (fraction if position % 2 == 0 else 1 - fraction)
        return start + total


def _sum(weights: dict[int, float], slopes: list[Tensor]) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for stage, weight in weights.items():
        total = torch.add(total, slopes[stage], alpha=weight)
    return total


def _combined(fifth: Tensor, third: Tensor) -> Tensor:
    squares = fifth.square().sum()
    return squares / (squares + _SHARE * third.square().sum()).sqrt().clamp(min=1e-300)


def _trial(rule: Field, x: Tensor, first: Tensor, h: float) -> _Step:
    slopes = [first]
    point = x
    for row in ROWS[1:]:
        point = torch.add(x, _sum(row, slopes), alpha=h)
        slopes.append(rule(point))
    end = torch.add(x, _sum(WEIGHTS, slopes), alpha=h)
    slopes.append(rule(end))
    # The last two stages lie at one time: their difference measures h times the steepest slope.
    spread = float(torch.linalg.vector_norm(end - point))
    bend = float(torch.linalg.vector_norm(slopes[-1] - slopes[-2]))
    fifth, third = h * _sum(FIFTH, slopes), h * _sum(THIRD, slopes)
    size = float(fifth.norm())
    error = fifth * (float(_combined(fifth, third)) / size) if size > 0 else fifth
    stiffness = h * bend / spread if spread > 0 else 0.0
    return _Step(rule, end, slopes, error, fifth, third, stiffness, field_jump(slopes))


# The stability region ends at 6.1.
DOP853 = Scheme(_trial, 8, 4.0)
