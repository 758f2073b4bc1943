"""Which of several processes writes the run, and what the others have in the place of its store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from neuralmechanics.monitor.processes.holding import sharded
from neuralmechanics.monitor.store.run_store import RunStore
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource, read_source
from neuralmechanics.monitor.warning import Note

Writer = int | Literal["every"] | None


def rank() -> int:
    """This process's number in its group; 0 where there is none."""
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def writes(writer: Writer) -> bool:
    """Whether this process writes: the one that was named, by default the first."""
    return writer == "every" or rank() == (writer or 0)


def guessed(writer: Writer, model: nn.Module, params: Mapping[str, Tensor]) -> bool:
    """Whether this process was left out although nothing says that it trains the same model as the first."""
    if writer is not None or rank() == 0:
        return False
    parallel = any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules())
    return not parallel and not any(map(sharded, params.values()))


class SilentStore:
    """Takes the calls of a store and writes nothing; what another process wrote there can be read."""

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        self.path = Path(path)
        self._resume = resume

    @property
    def recorded(self) -> bool:
        """Whether there is something to resume."""
        return self._resume and self.path.is_dir() and RunStore(self.path).recorded

    @property
    def begun(self) -> bool:
        """Nothing is begun here."""
        return False

    def lock(self) -> None:
        """The writing process has the lock."""

    def close(self) -> None:
        """Nothing to let go of."""

    def begin_segment(self, info: Mapping[str, Any], start: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Left to the writing process."""

    def append(self, number: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Left to the writing process."""

    def note(self, note: Note) -> None:
        """Left to the writing process."""

    def past(self) -> Iterator[Arrays]:
        """The records that are there, newest first."""
        return RunStore(self.path).past()

    def source(self) -> RunSource:
        """What the writing process has written."""
        return read_source(self.path)
