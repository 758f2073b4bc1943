"""What tells runs of an experiment apart: settings from their configuration, as values, labels and table columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neuralmechanics.report.source import RunLike, configuration

# Column of the error tables, where the configuration keeps it, and its letter in titles.
SETTINGS = {
    "model": ("model", ""),
    "data": ("data", ""),
    "learning_rate": ("optimizer.learning_rate", "η"),
    "weight_decay": ("optimizer.weight_decay", "λ"),
    "momentum": ("optimizer.momentum", "β"),
    "dampening": ("optimizer.dampening", "α"),
    "nesterov": ("optimizer.nesterov", ""),
    "schedule": ("schedule.name", ""),
    "batch_size": ("batch_size", "batch"),
}


def setting(run: RunLike, name: str) -> Any:
    """The value of a setting (a name of ``SETTINGS``), None where the run's configuration does not say."""
    value: Any = configuration(run)
    for key in SETTINGS[name][0].split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def label(run: RunLike, *names: str) -> str:
    """Settings as a title: letters for numbers, the value alone for names."""
    parts = []
    for name in names:
        letter, value = SETTINGS[name][1], setting(run, name)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f"{letter} = {text}" if letter else text)
    return ", ".join(parts)


def distinct(runs: Sequence[RunLike], *names: str) -> list[tuple[Any, ...]]:
    """Combinations of settings that occur, rising (names alphabetically, unset first)."""
    found = {tuple(setting(run, name) for name in names) for run in runs}
    return sorted(found, key=lambda values: [(value is not None, value) for value in values])


def matching(runs: Sequence[RunLike], names: Sequence[str], values: Sequence[Any]) -> list[RunLike]:
    """The runs with these settings."""
    return [run for run in runs if [setting(run, name) for name in names] == list(values)]


def error_table(runs: Sequence[RunLike]) -> pd.DataFrame:
    """The errors of all runs below one another, with the settings that tell the runs apart in front."""
    if not runs:
        raise ValueError("no run was given: train the experiment first")
    tables = []
    for run in runs:
        errors = run.errors()
        for position, name in enumerate(SETTINGS):
            errors.insert(position, name, [setting(run, name)] * len(errors))
        tables.append(errors)
    return pd.concat(tables, ignore_index=True)
