"""How a monitor speaks: loudly, once, and without ever stopping a training."""

from __future__ import annotations

import sys
import warnings


class MonitorWarning(UserWarning):
    """Something about a monitored training that its user has to know."""


def announce(message: str) -> None:
    """One warning; where warnings are errors it goes to the standard error stream, for training must go on."""
    try:
        warnings.warn(message, MonitorWarning, stacklevel=2)
    except MonitorWarning:
        print(f"MonitorWarning: {message}", file=sys.stderr, flush=True)
