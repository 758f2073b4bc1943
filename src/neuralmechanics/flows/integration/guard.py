"""The limits of an integration: a budget of evaluations, finite states, and a bound on their size."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field

__all__ = ["Guard"]

_RUNAWAY = 1e6


class Guard:
    """Counts evaluations of a field up to a maximum, and refuses states that are not finite or too large.

    The bound on the largest entry is a million times one plus that of the start, where none is given.
    """

    def __init__(self, max_evaluations: int, start: Float64[Tensor, " state"], max_size: float | None = None) -> None:
        self.evaluations = 0
        self.max_evaluations = max_evaluations
        self.max_size = _RUNAWAY * (1 + _largest(start)) if max_size is None else max_size

    def watch(self, field: Field) -> Field:
        """The field, counted; raises ``Halt`` past the cap. Values are checked by ``accept``, not here."""

        def watched(state: Tensor) -> Tensor:
            if self.evaluations >= self.max_evaluations:
                raise Halt(
                    StopReason.EVALUATIONS,
                    f"the cap of {self.max_evaluations} evaluations was reached: raise max_evaluations, "
                    "loosen the tolerance or lengthen the step",
                )
            self.evaluations += 1
            return field(state)

        return watched

    def accept(self, state: Tensor) -> Tensor:
        """The state, if it is finite and within bounds."""
        # Rejected trials may run into NaN; only a state that is kept must be finite.
        if not bool(torch.isfinite(state).all()):
            raise Halt(
                StopReason.NOT_FINITE,
                "the state is no longer finite: the field returned NaN or infinity; "
                "look at the loss near the last recorded parameters",
            )
        largest = float(state.abs().max())
        if largest > self.max_size:
            raise Halt(
                StopReason.EXPLODED,
                f"a parameter reached {largest:.3g}, above the bound {self.max_size:.3g}: the flow runs away, or the "
                "step is too long for its curvature (shorten step)",
            )
        return state


def _largest(state: Tensor) -> float:
    size = float(state.abs().max())
    return size if math.isfinite(size) else 1.0
