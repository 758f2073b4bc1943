"""Which lines of the package a call reaches, in which order of magnitude of times: what guides the search."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

Place = tuple[str, int, int]


class Coverage:
    """The places reached so far."""

    def __init__(self, part: str = "neuralmechanics") -> None:
        self._part = part
        self.places: set[Place] = set()

    def new(self, call: Callable[[], None]) -> bool:
        """Run a call; whether it reached a place that none before it did, or one far more often."""
        lines: Counter[tuple[str, int]] = Counter()

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "line":
                lines[frame.f_code.co_filename, frame.f_lineno] += 1
            return line

        def enter(frame: FrameType, event: str, argument: Any) -> Any:
            return line if self._part in frame.f_code.co_filename else None

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            call()
        finally:
            sys.settrace(before)
        # One, two and three times differ; beyond that twice as often does.
        found = {(file, n, count if count < 4 else 2 + count.bit_length()) for (file, n), count in lines.items()}
        fresh = not found <= self.places
        self.places |= found
        return fresh
