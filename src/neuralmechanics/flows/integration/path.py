"""What an integration leaves behind: the trajectory, its charges, its cost, its error, and why it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float64, Int64
from torch import Tensor

from neuralmechanics.flows.equation.stop import StopReason

__all__ = ["Path"]


@dataclass(frozen=True)
class Path:
    """A trajectory at the times that were asked for, as far as it came.

    ``error_estimate`` is the estimated largest error of any parameter at each time: by shorter steps, or, between kinks
    and where adaptive steps are not to be doubled, the sum of local errors; NaN where none was asked for of fixed
    steps. ``evaluations`` counts those of the field, the estimate's included. ``pattern_changes`` counts activations of
    rectifiers that switched since the time before, None where the loss has no rectifier. ``event_times`` are the
    instants at which kinks were located and crossed, None where none were looked for; at ``slides`` of them the flow
    began to slide along a kink.
    ``companions`` holds what a flow at the edge of stability carries beside the parameters, by name and as they are.
    """

    times: Float64[Tensor, " times"]
    params: dict[str, Tensor]
    losses: Float64[Tensor, " times"]
    charges: Float64[Tensor, "times charges"] | None
    evaluations: int
    reason: StopReason
    message: str
    error_estimate: Float64[Tensor, " times"]
    pattern_changes: Int64[Tensor, " times"] | None
    label: str = ""
    event_times: Float64[Tensor, " events"] | None = None
    slides: int = 0
    companions: Mapping[str, dict[str, Tensor]] = field(default_factory=dict)

    def at(self, index: int) -> dict[str, Tensor]:
        """The parameters at one of the times."""
        return {name: values[index] for name, values in self.params.items()}

    def beside(self, index: int) -> dict[str, dict[str, Tensor]]:
        """What the flow carries beside the parameters at one of the times, as ``flow.oscillation`` takes it by name."""
        return {kind: {name: values[index] for name, values in held.items()} for kind, held in self.companions.items()}

    @property
    def final(self) -> dict[str, Tensor]:
        """The parameters where the trajectory ends."""
        return self.at(-1)

    @property
    def completed(self) -> bool:
        """Whether the last time asked for was reached."""
        return self.reason is StopReason.COMPLETED

    def require_completed(self) -> Path:
        """This path, or a ``RuntimeError`` that says why it is partial."""
        if not self.completed:
            raise RuntimeError(f"{self.label or 'the flow'} stopped at t={float(self.times[-1]):.6g}: {self.message}")
        return self

    def __repr__(self) -> str:
        return (
            f"Path({self.label}: {len(self.times)} times up to {float(self.times[-1]):.6g}, "
            f"{self.evaluations} evaluations, {self.reason})"
        )
