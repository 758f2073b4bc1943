"""The store that a training records into: at a path, or in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuralmechanics.monitor.store.memory import MemoryStore
from neuralmechanics.monitor.store.protocol import Store
from neuralmechanics.monitor.store.run_store import RunStore

__all__ = ["open_store"]


def open_store(path: str | Path | None, content: Mapping[str, Any], *, resume: bool | int) -> Store:
    """The store at a path, or one in memory. Raises ValueError for a run that is there and was not to be resumed."""
    if resume < 0:
        raise ValueError(f"resume={resume}: give the step that the parameters are of, 0 or more")
    if path is None:
        return MemoryStore(content)
    store = RunStore.open(path, content)
    if store.recorded and resume is False:
        raise ValueError(
            f"{path} holds a run already; give another folder for a new one, or resume=True to continue it"
        )
    return store
