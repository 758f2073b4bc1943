"""Data sets, their batches and their augmentation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmechanics.experiments.data.batches import Batches, Position, advance
    from neuralmechanics.experiments.data.dataset import DataSet, Split
    from neuralmechanics.experiments.data.library import data_names, load_data
    from neuralmechanics.experiments.data.own import data_set
    from neuralmechanics.experiments.data.stored import store_data, stored_data
    from neuralmechanics.experiments.data.whereabouts import require_here

# Whether a data set is here is told before torch is loaded.
_EXPORTS = {
    "batches": ("Batches", "Position", "advance"),
    "dataset": ("DataSet", "Split"),
    "library": ("data_names", "load_data"),
    "own": ("data_set",),
    "stored": ("store_data", "stored_data"),
    "whereabouts": ("require_here",),
}

__all__ = [
    "Batches",
    "DataSet",
    "Position",
    "Split",
    "advance",
    "data_names",
    "data_set",
    "load_data",
    "require_here",
    "store_data",
    "stored_data",
]


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module 'neuralmechanics.experiments.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
