"""Many trainings: a grid expanded, run on Ray or in processes, gathered in one table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmechanics.experiments.sweep.gathering import gather, gather_errors
    from neuralmechanics.experiments.sweep.grid import Point, Sweep, expand, load_sweep
    from neuralmechanics.experiments.sweep.running import run_sweep

# Which trainings a sweep has is told before torch is loaded.
_EXPORTS = {
    "gathering": ("gather", "gather_errors"),
    "grid": ("Point", "Sweep", "expand", "load_sweep"),
    "running": ("run_sweep",),
}

__all__ = ["Point", "Sweep", "expand", "gather", "gather_errors", "load_sweep", "run_sweep"]


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module 'neuralmechanics.experiments.sweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
