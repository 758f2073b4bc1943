"""The options of a monitor, for those that pass them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from neuralmechanics.monitor.processes.writing import Writer
from neuralmechanics.monitor.trackers.protocol import Tracker


class MonitorOptions(TypedDict, total=False):
    """Keyword arguments of `Monitor`, each with its meaning there."""

    every: int
    laws: Sequence[str] | None
    residuals: bool
    drives: bool
    exact_update: bool
    strict: bool
    resume: bool | int
    trackers: Sequence[Tracker]
    writer: Writer
