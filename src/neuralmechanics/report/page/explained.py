"""What the page says before it shows: findings, the budget of every layer, the forecast of every scale-free group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.explaining.findings.finding import Finding, shown, some
from neuralmechanics.monitor.reading.run import Run
from neuralmechanics.report.page.chart import Chart, Spec, line, spec
from neuralmechanics.report.palette import BLACK, BLUE, MEASURED, OKABE_ITO, VERMILLION
from neuralmechanics.report.source import RunLike, spread, thinned
from neuralmechanics.report.tables import number

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuralmechanics.monitor.explaining.forecasting.forecast import Forecast

_MOST_POINTS, _MOST_LAYERS, _LINES = 300, 60, 6
_BANDS: dict[str, dict[str, Any]] = {
    "norm": {"name": "forecast", "colour": VERMILLION},
    "low": {"name": "interval", "colour": BLACK, "dash": "dot", "width": 0.7},
    "high": {"name": "", "colour": BLACK, "dash": "dot", "width": 0.7},
}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")


@dataclass(frozen=True)
class Told:
    """One finding as texts."""

    text: str
    place: str
    evidence: str
    remedy: str
    grave: bool


@dataclass(frozen=True)
class Table:
    """A table as texts: its head, and rows of cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Explained:
    """Findings (None: this run keeps no budget to find them in), charts, and the forecast's table with its remarks."""

    findings: list[Told] | None = None
    charts: tuple[Chart, ...] = ()
    forecast: Table | None = None
    remarks: tuple[str, ...] = ()


def explained(run: RunLike) -> Explained:
    """All of it for a run of the monitor that keeps a budget; nothing for another."""
    if not isinstance(run, Run) or not run.config["monitor"].get("budget") or run.data.sizes["step"] < 2:
        return Explained()
    drawn = [budget_chart(run)]
    try:
        told = run.forecast()
    except ValueError as error:
        return Explained(_told(run.findings()), tuple(c for c in drawn if c.choices), None, (str(error),))
    if len(told.scales):
        drawn.append(forecast_chart(run, told))
    table = _table(told.by_layer()) if len(told.scales) else None
    return Explained(_told(run.findings()), tuple(c for c in drawn if c.choices), table, told.withheld)


def _told(findings: list[Finding]) -> list[Told]:
    return [
        Told(
            finding.text,
            some(finding.place),
            ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in finding.evidence.items()),
            finding.remedy,
            finding.weight >= 70,
        )
        for finding in findings
    ]


def budget_chart(run: Run) -> Chart:
    """Σ of each part up to every record, for each layer and kind of charge; together they are the measured change."""
    books = run.budget("layer")
    keep = thinned(books.sizes["step"], _MOST_POINTS)
    choices = {}
    for column in _busiest(books):
        name = f"{books['layer'].values[column]}: {books['kind'].values[column]}"
        choices[name] = _parts(books, column, keep)
    text = (
        "What moved the charges of a layer since the start, by cause. The causes add up to the wide grey line, which "
        "is what was measured."
    )
    return Chart("budget", "Budget", text, "layer", choices, [books["step"].values[keep].astype(np.float64)])


def _busiest(books: xr.Dataset) -> list[int]:
    """The layers with a chart: those that moved most come first."""
    moved = np.nan_to_num(np.abs(books["change"].values).sum(axis=(0, 1)))
    scale = books["kind"].values == "scale"
    return [int(k) for k in np.lexsort((-moved, ~scale))[:_MOST_LAYERS] if moved[k] > 0]


def _parts(books: xr.Dataset, column: int, keep: np.ndarray[Any, Any]) -> Spec:
    measured = np.cumsum(books["measured"].values[:, column])[keep]
    traces = [line(measured, name="measured change", colour=MEASURED, width=5)]
    for k, part in enumerate(books["part"].values):
        total = np.cumsum(books["change"].sel(part=part).values[:, column])[keep]
        if np.any(total != 0) and np.isfinite(total).any():
            colour = OKABE_ITO[k % len(OKABE_ITO)]
            traces.append(line(total, name=str(part).replace("_", " "), colour=colour, dash=_DASHES[k]))
    return spec(traces, ylabel="change of the charges, summed over the layer")


def forecast_chart(run: Run, told: Forecast) -> Chart:
    """|θ| of a few groups of each layer as measured, and where they go, with the interval."""
    data, paths = run.data, told.paths
    scale = np.flatnonzero(data["kind"].values == "scale")
    at = {label: k for k, label in zip(scale, data["label"].values[scale], strict=True)}
    keep, ahead = thinned(data.sizes["step"], _MOST_POINTS), thinned(paths.sizes["step"], _MOST_POINTS)
    choices = {}
    for layer in list(dict.fromkeys(paths["layer"].values))[:_MOST_LAYERS]:
        mine = np.flatnonzero(paths["layer"].values == layer)
        chosen = mine[spread(paths["norm"].values[-1, mine], _LINES)]
        traces = []
        for first, k in enumerate(chosen):
            norm = np.sqrt(data["charge"].values[keep, at[paths["label"].values[k]]])
            traces.append(line(norm, name="measured", colour=BLUE, legendgroup="m", showlegend=first == 0))
            for name, style in _BANDS.items():
                known = bool(style["name"]) and first == 0
                traces.append(line(paths[name].values[ahead, k], steps=1, legendgroup=name, showlegend=known, **style))
        choices[str(layer)] = spec(traces, ylabel="norm of the weights")
    text = (
        f"Norms of scale-free weights as they were up to step {told.step}, and where the laws take them by step "
        f"{told.to} if the settings stay as they are. Dotted: two standard errors."
    )
    steps = [data["step"].values[keep].astype(np.float64), paths["step"].values[ahead].astype(np.float64)]
    return Chart("forecast", "Forecast", text, "layer", choices, steps)


def _table(frame: pd.DataFrame) -> Table:
    wanted = ("layer", "groups", "norm", "equilibrium_norm", "steps_to_equilibrium", "rotation", "equilibrium_rotation")
    names = [*wanted, "effective_learning_rate"]
    rows = tuple(tuple(_cell(value) for value in row) for row in frame[names].itertuples(index=False, name=None))
    return Table(tuple(name.replace("_", " ") for name in names), rows)


def _cell(value: object) -> str:
    return "∞" if isinstance(value, float) and np.isinf(value) else number(value)
