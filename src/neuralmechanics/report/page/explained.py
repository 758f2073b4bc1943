"""What the page says before it shows: findings, the budget of every family, the forecast of every scale-free group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.explaining.findings.finding import Finding, shown, some
from neuralmechanics.monitor.reading.run import Run
from neuralmechanics.report.page.charts.chart import Block, Chart, Choice, Pen, Spec, spec
from neuralmechanics.report.page.charts.families import Place, points
from neuralmechanics.report.page.charts.layers import layer_charts
from neuralmechanics.report.palette import BLUE, DASHES, FAINT, MEASURED, OKABE_ITO, VERMILLION
from neuralmechanics.report.source import RunLike, spread, thinned
from neuralmechanics.report.tables import number

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuralmechanics.monitor.explaining.forecasting.forecast import Forecast

_LINES = 4
_BANDS: dict[str, dict[str, Any]] = {
    "norm": {"name": "forecast", "colour": VERMILLION, "dash": "dash"},
    "low": {"name": "interval", "colour": FAINT, "width": 0.8},
    "high": {"name": "", "colour": FAINT, "width": 0.8},
}
GRAVE = 70.0


@dataclass(frozen=True)
class Told:
    """One finding as texts."""

    text: str
    place: str
    evidence: str
    remedy: str
    grave: bool
    layers: tuple[str, ...] = ()


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


def keeps_budget(run: RunLike) -> bool:
    """Whether this is a run of the monitor that tells what moved its charges."""
    return isinstance(run, Run) and bool(run.config["monitor"].get("budget")) and run.data.sizes["step"] > 1


def explained(run: RunLike, places: Sequence[Place], block: Block) -> Explained:
    """All of it for a run of the monitor that keeps a budget; nothing for another."""
    if not keeps_budget(run):
        return Explained()
    assert isinstance(run, Run)
    drawn, table = [budget_chart(run, places, block)], None
    remarks: tuple[str, ...] = ()
    try:
        forecast = run.forecast()
    except ValueError as error:
        remarks = (str(error),)
    else:
        remarks = forecast.withheld
        if len(forecast.scales):
            drawn.append(forecast_chart(run, forecast, places, block))
            table = _table(forecast.by_layer())
    drawn += layer_charts(run, block)
    return Explained(told(run.findings()), tuple(chart for chart in drawn if chart.choices), table, remarks)


def told(findings: list[Finding]) -> list[Told]:
    """Findings as the page shows them."""
    return [
        Told(
            finding.text,
            some(finding.place),
            ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in finding.evidence.items()),
            finding.remedy,
            finding.weight >= GRAVE,
            finding.place,
        )
        for finding in findings
    ]


def budget_chart(run: Run, places: Sequence[Place], block: Block) -> Chart:
    """Σ of each part up to every record, for each family; together they are the measured change."""
    books = run.budget("family")
    keep = thinned(books.sizes["step"], points(len(places)))
    pen = Pen(block, books["step"].values[keep].astype(np.float64))
    at = {(str(name), str(kind)): k for k, (name, kind) in enumerate(_named(books))}
    choices = {p.family: Choice(_parts(books, at[p.family, p.kind], keep, pen), p.layer, p.kind) for p in places}
    text = (
        "What moved the charges of the family since the start, by cause. The causes add up to the wide grey line, "
        "which is what was measured."
    )
    return Chart("budget", "Budget", text, "family", choices, linked=True)


def _named(books: xr.Dataset) -> zip[tuple[Any, Any]]:
    return zip(books["family"].values, books["kind"].values, strict=True)


def _parts(books: xr.Dataset, column: int, keep: np.ndarray[Any, Any], pen: Pen) -> Spec:
    measured = np.cumsum(books["measured"].values[:, column])[keep]
    traces = [pen.line(measured, name="measured change", colour=MEASURED, width=5)]
    for k, part in enumerate(books["part"].values):
        # Summed before it is thinned: what lies between the records that are drawn counts as well.
        total = np.cumsum(books["change"].sel(part=part).values[:, column])[keep]
        if np.any(total != 0) and np.isfinite(total).any():
            colour = OKABE_ITO[k % len(OKABE_ITO)]
            traces.append(pen.line(total, name=str(part).replace("_", " "), colour=colour, dash=DASHES[k]))
    return spec(traces, ylabel="change, summed over the family")


def forecast_chart(run: Run, forecast: Forecast, places: Sequence[Place], block: Block) -> Chart:
    """|θ| of a few groups of each family as measured, and where they go, with the interval."""
    data, paths = run.data, forecast.paths
    scale = np.flatnonzero(data["kind"].values == "scale")
    at = {label: k for k, label in zip(scale, data["label"].values[scale], strict=True)}
    most = points(len(places))
    keep, ahead = thinned(data.sizes["step"], most), thinned(paths.sizes["step"], most // 2)
    before = Pen(block, data["step"].values[keep].astype(np.float64))
    after = Pen(block, paths["step"].values[ahead].astype(np.float64))
    choices = {}
    for place in places:
        mine = np.flatnonzero(paths["family"].values.astype(str) == place.family)
        if place.kind != "scale" or not len(mine):
            continue
        traces = []
        for first, k in enumerate(mine[spread(paths["norm"].values[-1, mine], _LINES)]):
            norm = np.sqrt(np.maximum(data["charge"].values[keep, at[paths["label"].values[k]]], 0.0))
            traces.append(before.line(norm, name="measured", colour=BLUE, legendgroup="m", showlegend=first == 0))
            for name, style in _BANDS.items():
                known = bool(style["name"]) and first == 0
                traces.append(after.line(paths[name].values[ahead, k], legendgroup=name, showlegend=known, **style))
        choices[place.family] = Choice(spec(traces, ylabel="norm of the weights"), place.layer, place.kind)
    text = (
        f"Norms of scale-free weights as they were up to step {forecast.step}, and where the laws take them by step "
        f"{forecast.to} if the settings stay as they are. Grey: two standard errors."
    )
    return Chart("forecast", "Forecast", text, "family", choices, linked=True)


def _table(frame: pd.DataFrame) -> Table:
    wanted = ("layer", "groups", "norm", "equilibrium_norm", "steps_to_equilibrium", "rotation", "equilibrium_rotation")
    names = [*wanted, "effective_learning_rate"]
    rows = tuple(tuple(_cell(value) for value in row) for row in frame[names].itertuples(index=False, name=None))
    return Table(tuple(name.replace("_", " ") for name in names), rows)


def _cell(value: object) -> str:
    return "∞" if isinstance(value, float) and np.isinf(value) else number(value)
