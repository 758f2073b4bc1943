"""Why an integration ends, and how the code that notices says so."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Halt", "StopReason"]


class StopReason(StrEnum):
    """Why an integration ended; anything but ``COMPLETED`` leaves the trajectory up to that time."""

    COMPLETED = "completed"
    STIFF = "stiff"
    KINKED = "kinked"
    CHATTERING = "chattering"
    EVALUATIONS = "evaluation limit"
    STEP = "step too small"
    NOT_FINITE = "not finite"
    EXPLODED = "exploded"
    NOT_CONVERGED = "stage equations not solved"
    STOPPED = "stopped by the caller"


class Halt(Exception):  # noqa: N818 - not an error: the integration ends here with its reason
    """The integration cannot go on; carries the reason and one line for the user."""

    def __init__(self, reason: StopReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
