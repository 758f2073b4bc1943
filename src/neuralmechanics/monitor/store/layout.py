"""The names inside a run's folder, and reading what is there without trusting it.

run.json                          once: format, the run's own name, configuration, versions, source revision, symmetries
tally.txt                         how many segments and records were acknowledged
segment-0000/segment.json         one folder a start or resume: its first step, where it came from, the counts before it
segment-0000/start.safetensors    charges, their sizes and momentum companions at that step
segment-0000/warnings.json        what the monitor said: steps and texts, from the start on
segment-0000/records-00000000-00000000.safetensors   immutable: first and last record that it holds
.lock                             held by the process that writes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.store.atomic import read_json
from neuralmechanics.monitor.store.tally import TALLY_FILE

FORMAT = 2
# Runs of format 1 have neither tally nor chain: they are read, and a gap in their numbers is damage all the same.
FORMATS = (1, 2)
RUN_FILE = "run.json"
SEGMENT_FILE = "segment.json"
START_FILE = "start.safetensors"
NOTES_FILE = "warnings.json"

_SEGMENT = re.compile(r"segment-(\d{4,8})$")
_SHARD = re.compile(r"records-(\d{8,12})-(\d{8,12})\.safetensors$")


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

    @property
    def count(self) -> int:
        """How many records it holds."""
        return self.last - self.first + 1


def read_run_file(path: Path) -> dict[str, Any]:
    """The content of `run.json`; `NotARunError` when there is none or another format."""
    try:
        content = read_json(path / RUN_FILE)
    except FileNotFoundError:
        content = {}
    except (NotADirectoryError, ValueError):
        if path.is_dir():
            raise
        content = {}
    if not content:
        raise NotARunError(f"{path} is no run ({_what(path)}); give the folder that a Monitor was told to store into")
    if content.get("format") not in FORMATS:
        raise NotARunError(
            f"{path} is a run of format {content.get('format')!r}; this version reads the formats 1 and {FORMAT}"
        )
    if (odd := _odd(content)) is not None:
        raise NotARunError(f"{path} is no run that can be read: its {RUN_FILE} says nothing that can be its {odd}")
    return content


def _odd(content: dict[str, Any]) -> str | None:
    """The first thing in a description that is missing or of another type than every run has there."""
    for key in ("configuration", "origin", "symmetries"):
        if not isinstance(content.get(key), dict):
            return key
    monitor = content["configuration"].get("monitor")
    laws = monitor.get("laws") if isinstance(monitor, dict) else None
    if not isinstance(laws, list) or not all(isinstance(law, str) for law in laws):
        return "laws"
    families = content["symmetries"].get("families")
    texts = ("kind", "name")
    if not isinstance(families, list) or not all(
        isinstance(family, dict) and all(isinstance(family.get(text), str) for text in texts) for family in families
    ):
        return "families"
    return None if content["format"] == 1 or isinstance(content.get("run"), str) else "name"


def _what(path: Path) -> str:
    if not path.exists():
        return "no such path"
    if not path.is_dir():
        return "not a folder"
    remains = next((f", though {folder.name} is there" for folder in segments(path)), "")
    return f"no {RUN_FILE} in it{remains}"


def is_unborn(path: Path) -> bool:
    """Whether a folder holds nothing but what a run leaves that was killed before its `run.json`, and hidden files."""
    return all(p.name == TALLY_FILE or p.name.startswith(".") for p in path.iterdir())


def segments(path: Path) -> list[Path]:
    """The segments of a run in order."""
    return [p for _, p in sorted((segment_number(p), p) for p in path.iterdir() if _SEGMENT.match(p.name))]


def segment_name(number: int) -> str:
    """The folder of a segment."""
    return f"segment-{number:04d}"


def segment_number(folder: Path) -> int:
    """The number in the name of a segment's folder."""
    match = _SEGMENT.match(folder.name)
    assert match is not None  # `segments` lists no other name
    return int(match[1])


def shard_name(first: int, last: int) -> str:
    """The file of a shard."""
    return f"records-{first:08d}-{last:08d}.safetensors"


def all_shards(segment: Path) -> list[ShardFile]:
    """The shards of a segment in order, a merged one before those that it replaces."""
    found = [ShardFile(p, int(match[1]), int(match[2])) for p in segment.iterdir() if (match := _SHARD.match(p.name))]
    return sorted((s for s in found if s.last >= s.first), key=lambda s: (s.first, -s.last))


def shards(segment: Path) -> list[ShardFile]:
    """The shards of a segment in order, without those that a merged shard has replaced."""
    kept: list[ShardFile] = []
    for shard in all_shards(segment):
        if not kept or shard.last > kept[-1].last:
            kept.append(shard)
    return kept
