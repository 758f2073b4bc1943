"""What a place that draws curves has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """Takes named numbers, one set a record. Whatever it raises is said once, and it is not called again."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of one record; names are unique, of printable characters, levels separated by a slash."""

    def close(self) -> None:
        """The run has ended: write what is kept back. What the user opened stays open."""
