"""What a run is read from: its description and, segment by segment, its records; whole also beside a writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.store.chain import Seen, look, missing_files
from neuralmechanics.monitor.store.layout import RUN_FILE, read_run_file
from neuralmechanics.monitor.store.shards.part import Part, Recent
from neuralmechanics.monitor.store.shards.shard import Arrays

# A writer that merges makes one look in two hundred incomplete, and never two in a row in the same place.
_LOOKS = 100


@dataclass(frozen=True)
class Segment:
    """One start or resume: where it came from, the charges it began with, its shards in order, what was said."""

    info: Mapping[str, Any]
    start: Arrays
    parts: list[Part]
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class RunSource:
    """Everything a run holds. `damage` lists what could not be read or is missing, each by name."""

    path: str
    content: Mapping[str, Any]
    segments: list[Segment]
    damage: list[str] = field(default_factory=list)


def read_source(path: Path) -> RunSource:
    """Verify a whole run: what is damaged or missing is left out and listed. Records are read when asked for."""
    content = read_run_file(path)
    seen = settled(path, content)
    recent, number = Recent(), count()
    segments = [
        Segment(
            s.described(), s.start, [Part(part, next(number), recent) for _, part in sorted(s.parts.items())], s.notes
        )
        for s in seen.segments
    ]
    return RunSource(str(path), content, segments, [problem for _, problem in seen.problems])


def settled(path: Path, content: Mapping[str, Any] | None) -> Seen:
    """The run as it is at one moment.

    A merge publishes the merged shard before it removes the single ones, so a look that misses both has seen the
    folder change under it, and the next look finds the merged shard; what two looks in a row miss is gone.
    """
    known: dict[str, Any] = {}
    before = look(path, content, known)
    for _ in range(_LOOKS):
        if not missing_files(before):
            break
        now = look(path, content, known)
        if missing_files(now) & missing_files(before):
            return now
        before = now
    return before


def describe(path: Path) -> list[tuple[str, str]]:
    """Every file of a run, or what is missing there, with its problem; the problem is empty where it is sound."""
    content: Mapping[str, Any] | None = None
    problem = ""
    try:
        content = read_run_file(path)
    except ValueError as error:
        problem = str(error)
    if not path.is_dir():
        return [(RUN_FILE, problem)]
    seen = settled(path, content)
    # Opening checks every byte and the form of packed rows; what they are unpacked to is seen by unpacking them.
    wrong = {part.name: part.problem() for segment in seen.segments for part in segment.parts.values()}
    return [(RUN_FILE, problem), *((name, found or wrong.get(name, "")) for name, found in seen.files)]
