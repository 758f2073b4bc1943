"""Counts and watches the evaluations of a field: the cap, numbers that are none, and runaways."""

from __future__ import annotations

import torch
from torch import Tensor

from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.integration.path import StopReason

__all__ = ["Guard", "Halt"]


class Halt(Exception):  # noqa: N818 - not an error: the integration ends here with its reason
    """The integration cannot go on; carries the reason and one line for the user."""

    def __init__(self, reason: StopReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Guard:
    """One integration's budget of evaluations and bound on the state."""

    def __init__(self, max_evaluations: int, max_size: float) -> None:
        self.evaluations = 0
        self.max_evaluations = max_evaluations
        self.max_size = max_size

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
