"""Symmetries of PyTorch models, their charges, and how real training moves them."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# Public name -> module that defines it: loaded on first use, so that importing the package costs nothing.
_EXPORTS = {
    "Family": "neuralmechanics.symmetry",
    "Symmetries": "neuralmechanics.symmetry",
    "find_symmetries": "neuralmechanics.symmetry",
    "check_symmetries": "neuralmechanics.diagnostics",
    "assert_symmetric": "neuralmechanics.diagnostics",
    "probe_symmetries": "neuralmechanics.diagnostics",
    "count_laws": "neuralmechanics.diagnostics",
    "lint": "neuralmechanics.diagnostics",
    "update_defect": "neuralmechanics.diagnostics",
    "Monitor": "neuralmechanics.monitor",
    "open_run": "neuralmechanics.monitor",
    "cite": "neuralmechanics.citations",
}
_SUBPACKAGES = (
    "diagnostics", "experiments", "flows", "laws", "monitor", "optimizers", "report", "rewrite", "slices", "symmetry",
)  # fmt: skip

try:
    __version__ = version("neuralmechanics")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", *_EXPORTS, *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"neuralmechanics.{name}")
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'neuralmechanics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
