"""What of a sweep can be told at once, before torch is loaded, which takes seconds."""

from __future__ import annotations

from neuralmechanics.experiments.config import RESULT
from neuralmechanics.experiments.data import require_here
from neuralmechanics.experiments.sweep.grid import Sweep

__all__ = ["require_beforehand"]


def require_beforehand(sweep: Sweep, workers: int | None) -> None:
    """`ValueError` for a number of workers that is none, a folder that is a file, and for data that is not here."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    for folder in (sweep.out, *sweep.out.parents):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{str(sweep.out)!r} cannot be made: {str(folder)!r} is no folder")
    missing = [point.config for point in sweep.points if not (sweep.folder(point) / RESULT).is_file()]
    if sweep.data_first:
        for name, images in dict.fromkeys((config.data, config.images) for config in missing):
            require_here(name, images)
