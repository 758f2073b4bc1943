"""What a run is read from: its description and, segment by segment, its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.atomic import read_json
from neuralmechanics.monitor.layout import NOTES_FILE, SEGMENT_FILE, START_FILE, read_run_file, segments, shards
from neuralmechanics.monitor.shard import Arrays, CorruptShardError, read_shard


@dataclass(frozen=True)
class Segment:
    """One start or resume: where it came from, the charges it began with, its shards in order, what was said."""

    info: Mapping[str, Any]
    start: Arrays
    parts: list[Arrays]
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class RunSource:
    """Everything a run holds. `damage` lists what could not be read, each by name."""

    path: str
    content: Mapping[str, Any]
    segments: list[Segment]
    damage: list[str] = field(default_factory=list)


def read_source(path: Path) -> RunSource:
    """Read and verify a whole run; damaged shards are left out and listed."""
    content = read_run_file(path)
    found: list[Segment] = []
    damage: list[str] = []
    for folder in segments(path):
        info, start = _segment(folder, damage)
        parts = []
        for shard in shards(folder):
            try:
                parts.append(read_shard(shard.path))
            except CorruptShardError as error:
                damage.append(str(error))
        found.append(Segment(info, start, parts, _notes(folder, damage)))
    return RunSource(str(path), content, found, damage)


def _notes(folder: Path, damage: list[str]) -> list[dict[str, Any]]:
    if not (folder / NOTES_FILE).exists():
        return []
    try:
        return list(read_json(folder / NOTES_FILE)["warnings"])
    except (ValueError, KeyError) as error:
        damage.append(str(error))
        return []


def _segment(folder: Path, damage: list[str]) -> tuple[dict[str, Any], Arrays]:
    info: dict[str, Any] = {"start_step": 0}
    start: Arrays = {}
    try:
        info = read_json(folder / SEGMENT_FILE)
    except ValueError as error:
        damage.append(str(error))
    try:
        start = read_shard(folder / START_FILE)
    except CorruptShardError as error:
        damage.append(str(error))
    return info, start
