"""A store that shows each record to trackers once it is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.monitor.store.protocol import Store
from neuralmechanics.monitor.store.shards.compact import expanded
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.monitor.trackers.protocol import Tracker
from neuralmechanics.monitor.trackers.summary import Summary
from neuralmechanics.monitor.warning import Note, Notes
from neuralmechanics.symmetry import Symmetries


class TrackedStore:
    """Passes every call on, and after each record its summary to the trackers.

    A tracker that raises is said once and left out from there on; `strict` raises instead. The records themselves are
    not concerned: they are in the store before any tracker hears of them.
    """

    def __init__(
        self, store: Store, trackers: Sequence[Tracker], symmetries: Symmetries, notes: Notes, *, strict: bool
    ) -> None:
        self._store = store
        self._trackers = list(trackers)
        self._symmetries = symmetries
        self._notes = notes
        self._strict = strict
        self._summary: Summary | None = None
        self._step = 0

    @property
    def path(self) -> Path | str:
        """What messages call the run."""
        return self._store.path

    @property
    def recorded(self) -> bool:
        """Whether the run already holds records."""
        return self._store.recorded

    @property
    def begun(self) -> bool:
        """Whether a segment was begun to write into."""
        return self._store.begun

    def lock(self) -> None:
        """Take the right to write."""
        self._store.lock()

    def close(self) -> None:
        """End the segment and the trackers."""
        try:
            self._each(lambda tracker: tracker.close())
        finally:
            self._store.close()

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Begin a segment; what trackers show is relative to its start."""
        self._store.begin_segment(info, start)
        self._summary = Summary(self._symmetries, start["charge"], start["scale"])

    def append(self, number: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep a record, then show it."""
        self._store.append(number, arrays)
        if self._trackers and self._summary is not None:
            self._step = int(arrays["step"][0])
            values = self._summary.values(expanded(arrays))
            self._each(lambda tracker: tracker.log(self._step, values))

    def note(self, note: Note) -> None:
        """Keep what the monitor said."""
        self._store.note(note)

    def past(self) -> Iterator[Arrays]:
        """The records that are there, newest first."""
        return self._store.past()

    def source(self) -> RunSource:
        """What a `Run` reads."""
        return self._store.source()

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                work(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                if self._strict:
                    raise
                name = type(tracker).__name__
                self._notes.tell(
                    f"tracker {name}",
                    self._step,
                    f"{name} failed at step {self._step} ({type(error).__name__}: {error}) and is left out from here "
                    "on; the run itself is not concerned",
                )
