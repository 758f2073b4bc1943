"""How a monitor speaks: loudly, once, at the user's line, and without ever stopping a training."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

# Modules of these packages are not where a user can act.
_INSIDE = {"neuralmechanics", "torch", "accelerate", "transformers", "lightning", "pytorch_lightning", "contextlib"}


class MonitorWarning(UserWarning):
    """Something about a monitored training that its user has to know."""


@dataclass(frozen=True)
class Note:
    """What a monitor said: the step it spoke of and the text, and what it was about."""

    step: int
    message: str
    subject: str = ""


class Notes:
    """Everything a monitor says, each subject once: a warning now, and kept with the run.

    Of several processes that find the same, one says it `aloud`.
    """

    def __init__(self, *, aloud: bool = True) -> None:
        self._aloud = aloud
        self._told: set[str] = set()
        self._unwritten: list[Note] = []

    def tell(self, subject: str, step: int, message: str, *, always: bool = False) -> None:
        """Say something, unless the subject was spoken of before; `always`: what concerns this process alone."""
        if subject in self._told:
            return
        self._told.add(subject)
        self._unwritten.append(Note(step, message, subject))
        if self._aloud or always:
            announce(message)

    def write(self, keep: Callable[[Note], None]) -> None:
        """Hand over what was said since the last time; what could not be kept stays for the next time."""
        while self._unwritten:
            keep(self._unwritten[0])
            del self._unwritten[0]


def announce(message: str) -> None:
    """One warning; where warnings are errors it goes to the standard error stream, for training must go on."""
    try:
        warnings.warn(message, MonitorWarning, stacklevel=_users_level())
    except MonitorWarning:
        print(f"MonitorWarning: {message}", file=sys.stderr, flush=True)


def _users_level() -> int:
    """The stack level, seen from `announce`, of the innermost frame that is the user's; `announce`'s caller if none."""
    frame, level = sys._getframe(1), 1
    while True:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _INSIDE:
            return level
        if frame.f_back is None:
            return 2
        frame, level = frame.f_back, level + 1
