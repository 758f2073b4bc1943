"""One look at a run's folder: every file read, every gap in the chain of its records found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.store.atomic import read_json
from neuralmechanics.monitor.store.layout import (
    NOTES_FILE,
    SEGMENT_FILE,
    START_FILE,
    ShardFile,
    segment_name,
    segment_number,
    segments,
    shards,
)
from neuralmechanics.monitor.store.shards.schema import require_records, require_start
from neuralmechanics.monitor.store.shards.shard import Arrays, CorruptShardError, Link, open_shard
from neuralmechanics.monitor.store.shards.stored import StoredArrays
from neuralmechanics.monitor.store.tally import TALLY_FILE, Tally, read_tally

# A gap of more segments than this is a made-up number, and is named as one.
_MOST_GAPS = 10_000
# Of a run so many bytes stay in memory, as they are stored; what is beyond is read from its files again.
_KEPT_BYTES = 64 << 20

_Shard = tuple[StoredArrays, Link | None]


@dataclass
class SeenSegment:
    """What one look found of a segment: its description where that is sound, its start, its parts by first record."""

    number: int
    info: Mapping[str, Any] | None = None
    start: Arrays = field(default_factory=dict)
    parts: dict[int, StoredArrays] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    listed: bool = False
    end: int = 0
    """one past the last record of which a file was listed"""

    def described(self) -> Mapping[str, Any]:
        """The description; where it is damaged, the first step that a shard of the segment knows."""
        if self.info is not None:
            return self.info
        first = [link.start_step for link in self.links] or [int(p["step"][0]) for _, p in sorted(self.parts.items())]
        return {"start_step": first[0] if first else 0, "continued": False, "damaged": True}


@dataclass
class Seen:
    """What one look found: the segments, and every file, or gap, with its problem."""

    segments: list[SeenSegment] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The files that are not sound."""
        return [(name, problem) for name, problem in self.files if problem]

    def lose(self, name: str, problem: str) -> None:
        """Note that something is not there."""
        self.files.append((name, problem))
        self.absent.add(name)


def missing_files(seen: Seen) -> set[str]:
    """Names of what the look did not find."""
    return seen.absent


def look(path: Path, content: Mapping[str, Any] | None, known: dict[str, Any]) -> Seen:
    """Read a run once. `known` keeps what was read, for files never change; `content` is that of a sound `run.json`."""
    chained = content is None or content.get("format") != 1
    seen = Seen()
    tally = _tally(path, seen) if chained else None
    following, folders = 0, segments(path)
    closed = tally is not None and tally.closed
    written = -1 if closed or not folders else segment_number(folders[-1])
    reader = _Reader(content, known, seen, written)
    for folder in folders:
        number = segment_number(folder)
        _lose_segments(seen, following, number)
        following = number + 1
        # Format 1 leaves a folder without a description where it was killed before the segment began.
        if chained or (folder / SEGMENT_FILE).is_file() or shards(folder):
            seen.segments.append(reader.segment(folder))
    if tally is not None:
        _lose_segments(seen, following, tally.segments)
    _require_counts(seen, tally)
    return seen


class _Reader:
    """Reads the files of a run, each once."""

    def __init__(self, content: Mapping[str, Any] | None, known: dict[str, Any], seen: Seen, written: int) -> None:
        self._run = content.get("run") if content else None
        self._known = known
        self._seen = seen
        self._written = written
        self._room = _KEPT_BYTES

    def segment(self, folder: Path) -> SeenSegment:
        """Everything in the folder of one segment."""
        found = SeenSegment(segment_number(folder), listed=True)
        if not folder.is_dir():
            self._seen.lose(folder.name, f"{folder.name} is no folder")
            return found
        self._description(folder, found)
        self._notes(folder, found)
        start = self._shard(folder / START_FILE, found, None)
        found.start = dict(start[0]) if start is not None else {}
        for shard in shards(folder):
            if shard.first > found.end:
                self._gap(found.number, found.end, shard.first)
            found.end = max(found.end, shard.last + 1)
            part = self._shard(shard.path, found, shard)
            if part is not None:
                found.parts[shard.first], link = part
                found.links += [link] if link is not None else []
        return found

    def _gap(self, segment: int, first: int, end: int) -> None:
        lose_records(self._seen, segment, first, end)

    def _description(self, folder: Path, found: SeenSegment) -> None:
        name = f"{folder.name}/{SEGMENT_FILE}"
        try:
            if name not in self._known:
                self._known[name] = _description(folder / SEGMENT_FILE)
            found.info = self._known[name]
            self._seen.files.append((name, ""))
        except FileNotFoundError:
            self._seen.lose(name, f"{name} is missing: the description of the segment")
        except ValueError as error:
            self._seen.files.append((name, str(error)))

    def _notes(self, folder: Path, found: SeenSegment) -> None:
        """What the monitor said: read at each look, for it grows. A segment says whether it began with such a file."""
        name = f"{folder.name}/{NOTES_FILE}"
        try:
            found.notes = _notes(folder / NOTES_FILE)
            self._seen.files.append((name, ""))
        except FileNotFoundError:
            if found.info is not None and found.info.get("noted"):
                self._seen.lose(name, f"{name} is missing: what the monitor said")
        except ValueError as error:
            self._seen.files.append((name, str(error)))

    def _shard(self, path: Path, found: SeenSegment, records: ShardFile | None) -> _Shard | None:
        name = f"{path.parent.name}/{path.name}"
        try:
            if name not in self._known:
                shard = open_shard(path, keep=self._keeps(path, found, records))
                self._require_place(shard, found.number, name, records)
                self._known[name] = shard
            result: _Shard = self._known[name]
        except FileNotFoundError:
            self._seen.lose(name, f"shard {name} is missing")
            return None
        except CorruptShardError as error:
            self._seen.files.append((name, str(error)))
            return None
        self._seen.files.append((name, ""))
        return result

    def _keeps(self, path: Path, found: SeenSegment, records: ShardFile | None) -> bool:
        """Whether a shard stays in memory: the first few bytes of a run, and records that a writer may merge soon."""
        if records is None or (records.count == 1 and found.number == self._written):
            return True
        size = path.stat().st_size
        if size > self._room:
            return False
        self._room -= size
        return True

    def _require_place(self, shard: _Shard, segment: int, name: str, records: ShardFile | None) -> None:
        arrays, link = shard
        kinds = {key: arrays.kind(key) for key in arrays}
        if records is None:
            require_start(kinds, name)
        else:
            require_records(kinds, records.count, name)
        if link is None:
            if self._run is not None:
                raise CorruptShardError(f"shard {name}: it says nothing of its place in the run")
            return
        before, count = (0, 0) if records is None else (records.first, records.count)
        if self._run not in (None, link.run):
            raise CorruptShardError(f"shard {name}: it belongs to another run")
        if (link.segment, link.before, link.count) != (segment, before, count):
            raise CorruptShardError(
                f"shard {name}: it was written as records {link.before} to {link.before + link.count - 1} of "
                f"{segment_name(link.segment)}"
            )


def lose_records(seen: Seen, segment: int, first: int, end: int) -> None:
    """Note that the records from `first` to before `end` of a segment are not there."""
    name = f"{segment_name(segment)}/records {first} to {end - 1}"
    seen.lose(name, f"{name} are missing")


def _description(path: Path) -> dict[str, Any]:
    info = read_json(path)
    step, before = info.get("start_step"), info.get("before", [])
    whole = isinstance(step, int) and step >= 0 and isinstance(before, list)
    if not whole or not all(isinstance(count, int) and count >= 0 for count in before):
        raise ValueError(f"{path} is damaged: it names no first step")
    return info


def _notes(path: Path) -> list[dict[str, Any]]:
    notes = read_json(path).get("warnings")
    if not isinstance(notes, list) or not all(
        isinstance(note, dict) and isinstance(note.get("step"), int) and isinstance(note.get("message"), str)
        for note in notes
    ):
        raise ValueError(f"{path} is damaged: it holds no warnings")
    return notes


def _tally(path: Path, seen: Seen) -> Tally | None:
    try:
        tally = read_tally(path)
    except ValueError as error:
        seen.files.append((TALLY_FILE, str(error)))
        return None
    seen.files.append((TALLY_FILE, ""))
    return tally


def _lose_segments(seen: Seen, first: int, end: int) -> None:
    """Note the segments from `first` to before `end`, of which there is no folder."""
    if end - first > _MOST_GAPS:
        seen.lose(f"{segment_name(first)} …", f"{segment_name(first)} to {segment_name(end - 1)} are missing")
        return
    for number in range(first, end):
        seen.lose(segment_name(number), f"{segment_name(number)} is missing")
        seen.segments.append(SeenSegment(number))


def _require_counts(seen: Seen, tally: Tally | None) -> None:
    """Note the records that a segment no longer has, though a later description, or the tally, counts them."""
    counted: dict[int, int] = {}
    for segment in seen.segments:
        for number, count in enumerate((segment.info or {}).get("before", [])):
            counted[number] = max(counted.get(number, 0), count)
    if tally is not None and tally.segments:
        counted[tally.segments - 1] = max(counted.get(tally.segments - 1, 0), tally.records)
    for segment in seen.segments:
        count = counted.get(segment.number, 0)
        if segment.listed and count > segment.end:
            lose_records(seen, segment.number, segment.end, count)
