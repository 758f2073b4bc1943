"""The pair of Dormand and Prince of orders 5 and 4, with its continuous extension."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.integration.adaptive import Scheme, field_jump, weighted_sum
from neuralmechanics.flows.integration.steppers import DORMAND_PRINCE_ROWS, DORMAND_PRINCE_WEIGHTS

__all__ = ["DORMAND_PRINCE"]

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


@dataclass(frozen=True)
class _Step:
    """One trial: where it leads, the slope there, its local error, and what dense output needs."""

    end: Tensor
    slopes: list[Tensor]
    error: Tensor
    stiffness: float
    jump: float

    def score(self, scale: Tensor) -> float:
        """The local error relative to ``scale``, in root mean square."""
        return float((self.error / scale).square().mean().sqrt())

    def between(self, start: Tensor, h: float, fraction: float) -> Tensor:
        """The fourth-order interpolant at ``fraction`` of the step."""
        rise = self.end - start
        bend = h * self.slopes[0] - rise
        rest = rise - h * self.slopes[-1] - bend
        curve = h * weighted_sum(_DENSE, self.slopes)
        left = 1 - fraction
        return start + fraction * (rise + left * (bend + fraction * (rest + left * curve)))


def _trial(field: Field, x: Tensor, first: Tensor, h: float) -> _Step:
    slopes = [first]
    point = x
    for row in DORMAND_PRINCE_ROWS[1:]:
        point = torch.add(x, weighted_sum(row, slopes), alpha=h)
        slopes.append(field(point))
    end = torch.add(x, weighted_sum(DORMAND_PRINCE_WEIGHTS, slopes), alpha=h)
    slopes.append(field(end))
    # The last two stages lie at one time: their difference measures h times the steepest slope.
    spread = float(torch.linalg.vector_norm(end - point))
    bend = float(torch.linalg.vector_norm(slopes[-1] - slopes[-2]))
    stiffness = h * bend / spread if spread > 0 else 0.0
    return _Step(end, slopes, h * weighted_sum(_ERROR, slopes), stiffness, field_jump(slopes))


# The stability region ends at 3.3.
DORMAND_PRINCE = Scheme(_trial, 5, 2.0)
