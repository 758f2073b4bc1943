"""The writing side of a run: a folder of immutable shards, readable to the last record at every moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.monitor.atomic import publish_json, read_json, remove_leftovers, sync_folder
from neuralmechanics.monitor.layout import (
    FORMAT,
    NOTES_FILE,
    RUN_FILE,
    SEGMENT_FILE,
    START_FILE,
    ShardFile,
    next_segment,
    read_run_file,
    segment_name,
    segments,
    shard_name,
    shards,
)
from neuralmechanics.monitor.shard import Arrays, CorruptShardError, read_shard, write_shard
from neuralmechanics.monitor.source import RunSource, read_source
from neuralmechanics.monitor.warning import Note

# Records merged into one shard: few enough to lose to one bad sector, many enough to keep folders small.
_MERGED = 64
STATE_PREFIX = "state/"
DRIVE_PREFIX = "drives/"


class RunStore:
    """Appends records to a run's folder; every record is on the disk when `append` returns.

    Each record is published as a shard of its own; when 64 have gathered they are merged into one, published before
    the single ones are deleted, so that a reader sees each record at every moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segment: Path | None = None
        self._count = 0
        self._loose: list[ShardFile] = []
        self._notes: list[dict[str, Any]] = []

    @classmethod
    def open(cls, path: str | Path, content: Mapping[str, Any]) -> RunStore:
        """The run at `path`, made from `content` when new; `ValueError` when other things or symmetries are there."""
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot store a run in {folder}: it is a file; give a new folder or that of a run")
        if (folder / RUN_FILE).exists():
            _require_same_symmetries(folder, content)
            return cls(folder)
        if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise ValueError(
                f"cannot store a run in {folder}: it holds other files and no {RUN_FILE}; give a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        publish_json(folder / RUN_FILE, {"format": FORMAT, **content})
        return cls(folder)

    @property
    def resumed(self) -> bool:
        """Whether the run already holds segments."""
        return bool(segments(self.path))

    @property
    def begun(self) -> bool:
        """Whether a segment was begun to write into."""
        return self._segment is not None

    def note(self, note: Note) -> None:
        """Publish what the monitor said, with all it said before in this segment."""
        if self._segment is None:
            raise RuntimeError("a note needs a segment: call begin_segment first")
        self._notes.append(asdict(note))
        publish_json(self._segment / NOTES_FILE, {"warnings": self._notes})

    def source(self) -> RunSource:
        """What a `Run` reads."""
        return read_source(self.path)

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """A new segment; it counts from the moment its `segment.json` is published, which is last."""
        remove_leftovers(self.path)
        folder = self.path / segment_name(next_segment(self.path))
        folder.mkdir()
        write_shard(folder / START_FILE, start)
        publish_json(folder / SEGMENT_FILE, dict(info))
        sync_folder(self.path)
        self._segment, self._count, self._loose, self._notes = folder, 0, [], []

    def append(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Publish one record: arrays with one row, and under `drives/` one row a step since the last record."""
        if self._segment is None:
            raise RuntimeError("a record needs a segment: call begin_segment first")
        number = self._count
        path = self._segment / shard_name(number, number)
        write_shard(path, arrays)
        self._count += 1
        self._loose.append(ShardFile(path, number, number))
        if len(self._loose) >= _MERGED:
            self._merge(self._segment)

    def last_states(self) -> Iterator[tuple[int, Arrays]]:
        """Records that hold the laws' state, newest first, as (step, arrays): where a training may resume."""
        limit: int | None = None
        for segment in reversed(segments(self.path)):
            files = shards(segment)
            for shard in reversed(files):
                arrays = read_shard(shard.path)
                step = int(arrays["step"][-1])
                if limit is None or step <= limit:
                    yield step, last_row(arrays)
            if files:
                start = int(read_json(segment / SEGMENT_FILE)["start_step"])
                limit = start if limit is None else min(limit, start)

    def _merge(self, segment: Path) -> None:
        try:
            parts = [read_shard(shard.path) for shard in self._loose]
        except CorruptShardError:
            # A reader will name the damaged shard; merging would only lose its neighbours with it.
            self._loose = []
            return
        first, last = self._loose[0].first, self._loose[-1].last
        write_shard(segment / shard_name(first, last), merged(parts))
        for shard in self._loose:
            shard.path.unlink(missing_ok=True)
        self._loose = []


def merged(parts: list[Arrays]) -> Arrays:
    """Shards put one after the other: rows stacked, gaps nan, the laws' state of the last record alone."""
    names = dict.fromkeys(name for part in parts for name in part if not name.startswith(STATE_PREFIX))
    out = {name: stacked(parts, name) for name in names}
    out |= {name: array for name, array in parts[-1].items() if name.startswith(STATE_PREFIX)}
    return out


def stacked(parts: list[Arrays], name: str) -> np.ndarray[Any, Any]:
    """One array over all parts; a part without it gives nan rows, a width of 1 stands for any width."""
    rows = "drives/step" if name.startswith(DRIVE_PREFIX) else "step"
    known = [part[name] for part in parts if name in part]
    width = max((a.shape[1] for a in known if a.ndim == 2), default=None)
    pieces = []
    for part in parts:
        count = len(part[rows]) if rows in part else 0
        shape = (count,) if width is None else (count, width)
        pieces.append(np.broadcast_to(part.get(name, np.float64(np.nan)), shape))
    return np.concatenate(pieces)


def last_row(arrays: Arrays) -> Arrays:
    """The last record of a shard alone."""
    return {
        name: array if name.startswith((STATE_PREFIX, DRIVE_PREFIX)) else array[-1:] for name, array in arrays.items()
    }


def _require_same_symmetries(folder: Path, content: Mapping[str, Any]) -> None:
    old = read_run_file(folder)["symmetries"]["families"]
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
