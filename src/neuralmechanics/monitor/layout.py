"""The names inside a run's folder, and reading what is there without trusting it.

run.json                          once: format, configuration, versions, source revision, symmetries
segment-0000/segment.json         one folder a start or resume: its first step and where it came from
segment-0000/start.safetensors    charges, their sizes and momentum companions at that step
segment-0000/warnings.json        what the monitor said: steps and texts; absent while it had nothing to say
segment-0000/records-00000000-00000000.safetensors   immutable: first and last record that it holds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.atomic import read_json

FORMAT = 1
RUN_FILE = "run.json"
SEGMENT_FILE = "segment.json"
START_FILE = "start.safetensors"
NOTES_FILE = "warnings.json"

_SEGMENT = re.compile(r"segment-(\d{4,})$")
_SHARD = re.compile(r"records-(\d{8,})-(\d{8,})\.safetensors$")


class NotARunError(ValueError):
    """A path that holds no run. The message names the path and what is missing there."""


@dataclass(frozen=True)
class ShardFile:
    """One shard of records: its path and the first and last record number in its segment."""

    path: Path
    first: int
    last: int

    @property
    def name(self) -> str:
        """Folder and file name, as messages show it."""
        return f"{self.path.parent.name}/{self.path.name}"


def read_run_file(path: Path) -> dict[str, Any]:
    """The content of `run.json`; `NotARunError` when there is none or another format."""
    file = path / RUN_FILE
    if not file.is_file():
        what = "no such path" if not path.exists() else "not a folder" if not path.is_dir() else f"no {RUN_FILE} in it"
        raise NotARunError(f"{path} is no run ({what}); give the folder that a Monitor was told to store into")
    content = read_json(file)
    if content.get("format") != FORMAT:
        raise NotARunError(f"{path} is a run of format {content.get('format')!r}; this version reads format {FORMAT}")
    return content


def segments(path: Path) -> list[Path]:
    """The complete segments of a run in order; one that was killed before it began is not counted."""
    found = [(int(match[1]), p) for p in path.iterdir() if (match := _SEGMENT.match(p.name))]
    return [p for _, p in sorted(found) if (p / SEGMENT_FILE).is_file()]


def segment_name(number: int) -> str:
    """The folder of a segment."""
    return f"segment-{number:04d}"


def next_segment(path: Path) -> int:
    """The first free number, unfinished segments counted."""
    return 1 + max((int(match[1]) for p in path.iterdir() if (match := _SEGMENT.match(p.name))), default=-1)


def shard_name(first: int, last: int) -> str:
    """The file of a shard."""
    return f"records-{first:08d}-{last:08d}.safetensors"


def shards(segment: Path) -> list[ShardFile]:
    """The shards of a segment in order, without those that a merged shard has replaced."""
    found = [ShardFile(p, int(match[1]), int(match[2])) for p in segment.iterdir() if (match := _SHARD.match(p.name))]
    kept: list[ShardFile] = []
    for shard in sorted(found, key=lambda s: (s.first, -s.last)):
        if not kept or shard.last > kept[-1].last:
            kept.append(shard)
    return kept
