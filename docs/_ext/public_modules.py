"""The public modules, in the order in which they offer names, and where each name is at home."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

PUBLIC = (
    "neuralmechanics",
    "neuralmechanics.diagnostics",
    "neuralmechanics.symmetry",
    "neuralmechanics.symmetry.families.spaces",
    "neuralmechanics.symmetry.families.actions",
    "neuralmechanics.rewrite",
    "neuralmechanics.rewrite.comparing",
    "neuralmechanics.rewrite.maps",
    "neuralmechanics.rewrite.files",
    "neuralmechanics.laws",
    "neuralmechanics.laws.equilibrium",
    "neuralmechanics.flows",
    "neuralmechanics.monitor",
    "neuralmechanics.monitor.trackers",
    "neuralmechanics.monitor.trainers.lightning",
    "neuralmechanics.monitor.trainers.transformers",
    "neuralmechanics.experiments",
    "neuralmechanics.experiments.data",
    "neuralmechanics.experiments.models",
    "neuralmechanics.experiments.sweep",
    "neuralmechanics.report",
    "neuralmechanics.report.paper",
    "neuralmechanics.optimizers",
    "neuralmechanics.slices",
)
# What public functions return or take, and no public module offers: described where it is defined.
INSIDE = (
    "neuralmechanics.diagnostics.balancing.balancing",
    "neuralmechanics.diagnostics.checking.report",
    "neuralmechanics.diagnostics.linting.report",
    "neuralmechanics.diagnostics.probing.comparison",
    "neuralmechanics.diagnostics.probing.report",
    "neuralmechanics.diagnostics.steps.update_defect",
    "neuralmechanics.flows.equation.data_set_charges",
    "neuralmechanics.flows.equation.examples",
    "neuralmechanics.monitor.explaining.comparison",
    "neuralmechanics.monitor.explaining.findings.finding",
    "neuralmechanics.monitor.explaining.forecasting.forecast",
    "neuralmechanics.monitor.options",
    "neuralmechanics.report.theory.figures",
)


def public_names(module: ModuleType) -> list[str]:
    """What ``import *`` takes; of a module without ``__all__`` the classes and functions that are defined in it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


@cache
def home(module: str, name: str) -> str:
    """The first module that offers this very object under this name."""
    wanted = getattr(importlib.import_module(module), name)
    for one in (*PUBLIC, *INSIDE):
        candidate = importlib.import_module(one)
        if name in public_names(candidate) and getattr(candidate, name) is wanted:
            return one
    return module
