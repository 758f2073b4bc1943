"""Two runs side by side: settings, what moved their layers, where their norms settle, what was found in one alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.explaining.budget import rows_of, totals
from neuralmechanics.monitor.explaining.findings.finding import Finding

if TYPE_CHECKING:
    import pandas as pd

    from neuralmechanics.monitor.reading.run import Run


@dataclass(frozen=True, eq=False)
class Comparison:
    """`settings` that differ, `layers` (change and parts of each run side by side), findings of one run alone."""

    settings: pd.DataFrame
    layers: pd.DataFrame
    only_first: tuple[Finding, ...]
    only_second: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: numbers that are not finite are null."""
        return {
            "settings": rows_of(self.settings),
            "layers": rows_of(self.layers),
            "only_first": [finding.to_dict() for finding in self.only_first],
            "only_second": [finding.to_dict() for finding in self.only_second],
        }


def compare_runs(first: Run, second: Run) -> Comparison:
    """Compare two runs that keep budgets. ValueError where they have no layer in common."""
    import pandas as pd

    require_runs([first, second])
    a, b = (totals(run.budget("layer")).set_index(["layer", "kind"]) for run in (first, second))
    common = a.index.intersection(b.index, sort=False)
    if not len(common):
        raise ValueError(f"{first.path} and {second.path} have no layer in common: they are of different models")
    columns: dict[str, Any] = {}
    for name in a.columns:
        if (a[name] != 0).any() or (b[name] != 0).any():
            columns |= {f"{name} 1": a.loc[common, name], f"{name} 2": b.loc[common, name]}
    told = [{finding.code: finding for finding in run.findings()} for run in (first, second)]
    return Comparison(
        differing_settings([first, second]).set_axis(["setting", "first", "second"], axis=1),
        pd.DataFrame(columns).reset_index(),
        tuple(finding for code, finding in told[0].items() if code not in told[1]),
        tuple(finding for code, finding in told[1].items() if code not in told[0]),
    )


def require_runs(runs: object) -> None:
    """TypeError where these are not opened runs."""
    from neuralmechanics.monitor.reading.run import Run

    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise TypeError(f"runs is a {type(runs).__name__}; give a list of opened runs, [run, other]")
    for run in runs:
        if not isinstance(run, Run):
            raise TypeError(
                f"{run!r} is a {type(run).__name__} and no run; open_run(path) opens one, monitor.run is one"
            )


def differing_settings(runs: Sequence[Run]) -> pd.DataFrame:
    """Every number of the configuration that is another in some of the runs, and how far each came: a row a setting.

    Columns: setting, then one a run by its position.
    """
    import pandas as pd

    known = [dict(_flat(run.config)) for run in runs]
    rows = []
    for name in dict.fromkeys(name for settings in known for name in settings):
        values = [settings.get(name) for settings in known]
        if any(value != values[0] for value in values):
            rows.append((name, *(str(settings.get(name, "none")) for settings in known)))
    steps = [int(np.max(run.data["step"].to_numpy(), initial=0)) for run in runs]
    if len(set(steps)) > 1:
        rows.append(("steps", *map(str, steps)))
    return pd.DataFrame(rows, columns=["setting", *range(len(runs))])


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for position, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{position}")
    else:
        yield prefix, value
