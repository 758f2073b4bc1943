"""Curves in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardTracker:
    """Scalars under `neuralmechanics/`, in a writer that is open already or in event files of a folder of its own."""

    def __init__(self, where: SummaryWriter | str | Path) -> None:
        self._own = isinstance(where, (str, Path))
        if isinstance(where, (str, Path)):
            from torch.utils.tensorboard import SummaryWriter

            where = SummaryWriter(str(where))
        self._writer = where

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One point a curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"neuralmechanics/{name}", value, global_step=step)

    def close(self) -> None:
        """Write what is kept back; close what was opened here."""
        if self._own:
            self._writer.close()
        else:
            self._writer.flush()
