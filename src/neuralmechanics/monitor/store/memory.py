"""A run that is kept in memory: the same records without a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from neuralmechanics.monitor.store.shards.part import Part
from neuralmechanics.monitor.store.shards.schema import STATE_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource, Segment
from neuralmechanics.monitor.warning import Note


class MemoryStore:
    """Takes the calls of a `RunStore` and keeps what it is given."""

    path = "memory"
    recorded = False

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)
        self._info: dict[str, Any] = {}
        self._start: Arrays = {}
        self._parts: list[Part] = []
        self._notes: list[dict[str, Any]] = []

    @property
    def begun(self) -> bool:
        """Whether there is a segment to write into."""
        return bool(self._info)

    def lock(self) -> None:
        """Nobody else can write here."""

    def close(self) -> None:
        """Nothing to let go of."""

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """The one segment of the run."""
        self._info, self._start = dict(info), dict(start)

    def append(self, number: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep record `number`, without the laws' state that only a resume would need."""
        self._parts[number:] = [Part({n: a for n, a in arrays.items() if not n.startswith(STATE_PREFIX)})]

    def note(self, note: Note) -> None:
        """Keep what the monitor said."""
        self._notes.append(asdict(note))

    def past(self) -> Iterator[Arrays]:
        """None: what is in memory is not resumed."""
        return iter(())

    def source(self) -> RunSource:
        """What a `Run` reads."""
        segments = [Segment(self._info, self._start, list(self._parts), list(self._notes))] if self._info else []
        return RunSource("memory", self._content, segments)
