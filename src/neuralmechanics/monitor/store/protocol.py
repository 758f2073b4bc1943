"""What a recorder needs of the place that it writes a run to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.monitor.warning import Note


class Store(Protocol):
    """A run that is being written: segments, and in each its records in order.

    `RunStore` keeps it in a folder, `MemoryStore` in memory. A call that raised OSError may be made again.
    """

    @property
    def path(self) -> Path | str:
        """What messages call the run."""

    @property
    def recorded(self) -> bool:
        """Whether the run already holds records."""

    @property
    def begun(self) -> bool:
        """Whether a segment was begun to write into."""

    def lock(self) -> None:
        """Take the right to write; `RunBusyError` names who has it."""

    def close(self) -> None:
        """End the segment and give the right to write back."""

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Begin a segment: a start or a resume, with the arrays that its laws begin from."""

    def append(self, number: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep record `number` of the segment; it is safe when this returns."""

    def note(self, note: Note) -> None:
        """Keep what the monitor said in this segment."""

    def past(self) -> Iterator[Arrays]:
        """The records that are there, newest first, shard by shard; each with the laws' state of its last record."""

    def source(self) -> RunSource:
        """What a `Run` reads."""
