"""The writing side of a run: a folder of immutable shards, readable to the last record at every moment."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.monitor.store.atomic import make_folder, publish_folder, publish_json, read_json, remove_leftovers
from neuralmechanics.monitor.store.layout import (
    FORMAT,
    NOTES_FILE,
    RUN_FILE,
    SEGMENT_FILE,
    START_FILE,
    ShardFile,
    is_unborn,
    read_run_file,
    segment_name,
    segment_number,
    segments,
    shard_name,
    shards,
)
from neuralmechanics.monitor.store.lock import WriterLock
from neuralmechanics.monitor.store.merging import MERGED, block_of, merge_blocks
from neuralmechanics.monitor.store.shards.compact import expanded
from neuralmechanics.monitor.store.shards.schema import DRIVE_PREFIX, STATE_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays, CorruptShardError, Link, read_shard, write_shard
from neuralmechanics.monitor.store.source import RunSource, read_source
from neuralmechanics.monitor.store.tally import Tally, publish_tally, read_tally, write_tally
from neuralmechanics.monitor.warning import Note, announce

_MOST_SEGMENTS = 1_000_000


class RunStore:
    """Appends records to a run's folder; every record is on the disk when `append` returns.

    Each record is published as a shard of its own; when 64 have gathered, fewer of large ones, they are merged into
    one, published before the single ones are removed: a reader finds every record at every moment. One store writes
    at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: WriterLock | None = None
        self._segment: Path | None = None
        self._link = Link("", 0, 0, 0, 0)
        self._notes: list[dict[str, Any]] = []
        self._block = MERGED
        self._merging: Iterator[None] = iter(())

    @classmethod
    def open(cls, path: str | Path, content: Mapping[str, Any]) -> RunStore:
        """The run at `path`, made from `content` when new; `ValueError` when other things or symmetries are there.

        Raises `RunBusyError` where another writer has it open. The right to write is asked for again by `lock`.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot store a run in {folder}: it is a file; give a new folder or that of a run")
        _require_free(folder)
        make_folder(folder)
        store = cls(folder)
        store.lock()
        try:
            _require_free(folder)
            if (folder / RUN_FILE).exists():
                _require_same_symmetries(folder, read_run_file(folder), content)
            else:
                publish_tally(folder, Tally())
                publish_json(folder / RUN_FILE, {"format": FORMAT, "run": uuid.uuid4().hex, **content})
        finally:
            store.unlock()
        return store

    @property
    def recorded(self) -> bool:
        """Whether the run already holds records."""
        return any(shards(segment) for segment in segments(self.path))

    @property
    def begun(self) -> bool:
        """Whether a segment was begun to write into."""
        return self._segment is not None

    def lock(self) -> None:
        """Take the right to write; `RunBusyError` names the process that has it."""
        if self._lock is None:
            self._lock = WriterLock(self.path)
            for folder in (self.path, *segments(self.path)):
                remove_leftovers(folder)

    def unlock(self) -> None:
        """Give the right to write back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """End the run's segment: the tally says that nothing is to follow. Another writer may then continue it."""
        try:
            if self._segment is not None and self._lock is not None:
                self._lock.require()
                self._go_on_merging(to_the_end=True)
                write_tally(self.path, self._tally(self._link.before, closed=True), durable=True)
        finally:
            self._segment = None
            self.unlock()

    def source(self) -> RunSource:
        """What a `Run` reads."""
        return read_source(self.path)

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """A new segment, published whole; its description counts the records of those before it."""
        self.lock()
        content = read_run_file(self.path)
        if content["format"] != FORMAT:
            raise ValueError(
                f"cannot continue the run in {self.path}: it is of format {content['format']}, which is only read; "
                "give a new folder"
            )
        number = 1 + max((segment_number(folder) for folder in segments(self.path)), default=-1)
        if number > _MOST_SEGMENTS:
            raise ValueError(
                f"cannot continue the run in {self.path}: it has a segment {number - 1}; give a new folder"
            )
        link = Link(str(content["run"]), number, 0, 0, int(info["start_step"]))
        described = {**info, "before": self._counts(number), "noted": True}

        def fill(folder: Path) -> None:
            write_shard(folder / START_FILE, start, link)
            # Empty from the start, so that a lost file is not taken for a monitor that had nothing to say.
            publish_json(folder / NOTES_FILE, {"warnings": []})
            publish_json(folder / SEGMENT_FILE, described)

        publish_folder(self.path / segment_name(number), fill)
        publish_tally(self.path, Tally(number + 1, 0, closed=False))
        self._segment, self._link, self._notes = self.path / segment_name(number), link, []
        self._merging = iter(())

    def append(self, number: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Publish record `number` of the segment: arrays with one row, and under `drives/` one row a step before it.

        After a failure the same record may be given again. Every 64 records are merged, fewer where records are large,
        at once or, where that is much work, piece by piece in the calls that follow; where it fails, they stay.
        """
        if self._segment is None or self._lock is None:
            raise RuntimeError("a record needs a segment: call begin_segment first")
        self._lock.require()
        write_shard(self._segment / shard_name(number, number), arrays, self._place(number, 1))
        write_tally(self.path, self._tally(number + 1, closed=False))
        self._link = self._place(number + 1, 0)
        if number == 0:
            self._block = block_of(arrays)
        if (number + 1) % self._block == 0:
            self._go_on_merging(to_the_end=True)
            link = self._link
            self._merging = merge_blocks(self._segment, self._block, link.run, link.segment, link.start_step)
        self._go_on_merging()

    def note(self, note: Note) -> None:
        """Publish what the monitor said, with all it said before in this segment; after a failure, again."""
        if self._segment is None or self._lock is None:
            raise RuntimeError("a note needs a segment: call begin_segment first")
        self._lock.require()
        said = asdict(note)
        notes = self._notes if self._notes[-1:] == [said] else [*self._notes, said]
        publish_json(self._segment / NOTES_FILE, {"warnings": notes})
        self._notes = notes

    def past(self) -> Iterator[Arrays]:
        """The records that hold, newest first, shard by shard; each with the laws' state of its last record.

        What a later segment replaced is left out, and so is a shard that cannot be read, which is said.
        """
        limit: int | None = None
        for segment in reversed(segments(self.path)):
            files = shards(segment)
            for file in reversed(files):
                arrays = _readable(file)
                if arrays is not None and (limit is None or arrays["step"][0] <= limit):
                    yield arrays if limit is None else until(arrays, limit)
            if files and (start := _start_step(segment, files)) is not None:
                limit = start if limit is None else min(limit, start)

    def _place(self, before: int, count: int) -> Link:
        link = self._link
        return Link(link.run, link.segment, before, count, link.start_step)

    def _tally(self, records: int, *, closed: bool) -> Tally:
        return Tally(self._link.segment + 1, records, closed)

    def _counts(self, number: int) -> list[int]:
        """How many records each segment before `number` was given, as far as anything still says it."""
        counts = [0] * number
        for folder in segments(self.path):
            counts[segment_number(folder)] = max((s.last + 1 for s in shards(folder)), default=0)
            with suppress(ValueError, OSError):
                for earlier, count in enumerate(read_json(folder / SEGMENT_FILE).get("before", [])):
                    counts[earlier] = max(counts[earlier], int(count))
        with suppress(ValueError):
            tally = read_tally(self.path)
            if 0 < tally.segments <= number:
                counts[tally.segments - 1] = max(counts[tally.segments - 1], tally.records)
        return counts

    def _go_on_merging(self, *, to_the_end: bool = False) -> None:
        """One piece of what is to be merged, or all; where it fails, the single shards stay."""
        try:
            for _ in self._merging:
                if not to_the_end:
                    return
        except OSError:
            self._merging = iter(())


def until(arrays: Arrays, step: int) -> Arrays:
    """The records of a shard up to a step; where that leaves some out, without the laws' state: it is of the last."""
    count = int(np.count_nonzero(arrays["step"] <= step))
    if count == len(arrays["step"]):
        return arrays
    return {name: array[:count] for name, array in arrays.items() if not name.startswith((STATE_PREFIX, DRIVE_PREFIX))}


def _readable(file: ShardFile) -> Arrays | None:
    try:
        return expanded(read_shard(file.path).arrays)
    except CorruptShardError as error:
        announce(f"{error}; the run is continued from an earlier record or a later one, without it")
        return None


def _start_step(segment: Path, files: list[ShardFile]) -> int | None:
    """The first step of a segment, from its description or, where that is damaged, from a shard."""
    with suppress(ValueError, OSError, KeyError, TypeError):
        return int(read_json(segment / SEGMENT_FILE)["start_step"])
    for file in files:
        with suppress(CorruptShardError):
            link = read_shard(file.path).link
            if link is not None:
                return link.start_step
    return None


def _require_free(folder: Path) -> None:
    if folder.is_dir() and not (folder / RUN_FILE).exists() and not is_unborn(folder):
        raise ValueError(f"cannot store a run in {folder}: it holds other files and no {RUN_FILE}; give a new folder")


def _require_same_symmetries(folder: Path, written: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    old = written["symmetries"]["families"]
    new = json.loads(json.dumps(content["symmetries"]["families"]))
    if old == new:
        return
    names = [f"{f['name']} ({f['kind']}, {len(f['labels'])})" for f in old]
    others = [f"{f['name']} ({f['kind']}, {len(f['labels'])})" for f in new]
    where = next((f"{a} there, {b} here" for a, b in zip(names, others, strict=False) if a != b), None)
    where = where or f"{len(names)} families there, {len(others)} here" if len(names) != len(others) else where
    raise ValueError(
        f"cannot continue the run in {folder}: its symmetries are not those given "
        f"({where or 'same families, other exponents or constants'}); give a new folder"
    )
