"""Reading every byte of a run again to see whether it is what was written, and all that was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuralmechanics.monitor.store.source import describe

if TYPE_CHECKING:
    import pandas as pd


def verify(path: Path) -> pd.DataFrame:
    """One row a file, and one for each thing that is missing: shard (its name in the run), sound, problem."""
    import pandas as pd

    rows = [(name, not problem, problem) for name, problem in describe(path)]
    return pd.DataFrame(rows, columns=["shard", "sound", "problem"]).sort_values(
        "shard", kind="stable", ignore_index=True
    )
