"""Reading every byte of a run again to see whether it is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuralmechanics.monitor.atomic import read_json
from neuralmechanics.monitor.layout import NOTES_FILE, RUN_FILE, SEGMENT_FILE, START_FILE, segments, shards
from neuralmechanics.monitor.shard import read_shard

if TYPE_CHECKING:
    import pandas as pd


def verify(path: Path) -> pd.DataFrame:
    """One row a file: shard (its name in the run), sound, problem (empty when sound)."""
    import pandas as pd

    files = [path / RUN_FILE]
    for segment in segments(path) if path.is_dir() else []:
        notes = [segment / NOTES_FILE] if (segment / NOTES_FILE).exists() else []
        files += [segment / SEGMENT_FILE, segment / START_FILE, *notes, *(shard.path for shard in shards(segment))]
    rows = [(str(file.relative_to(path)), *_problem(file)) for file in files]
    return pd.DataFrame(rows, columns=["shard", "sound", "problem"])


def _problem(file: Path) -> tuple[bool, str]:
    try:
        if file.suffix == ".json":
            read_json(file)
        else:
            read_shard(file)
    except (ValueError, OSError) as error:
        return False, str(error)
    return True, ""
