"""Figures of what moved a run's charges, where its norms go, and what was found: budget, forecast, findings."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from neuralmechanics.report.palette import BLUE, FAINT, INK, MEASURED, OKABE_ITO, VERMILLION, literal, shortened, tidy
from neuralmechanics.report.source import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuralmechanics.monitor.explaining.findings.finding import Finding
    from neuralmechanics.monitor.explaining.forecasting.forecast import Forecast
    from neuralmechanics.monitor.reading.run import Run

_MOST_BARS, _MOST_PANELS, _LINES = 24, 9, 6
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
GRAVE = 70.0


def budget_bars(run: Run) -> Figure:
    """What each cause did to the charges of every layer over the run, stacked; a mark where they were measured to end.

    Causes that lengthen stand to the right of zero, those that shorten to the left; their sum is the mark. Layers are
    drawn relative to Σ|cause|, so that all can be read. ValueError for a run that keeps no budget.
    """
    books = run.budget("layer")
    parts = [str(part) for part in books["part"].values]
    change = books["change"].sum("step").transpose("part", "layer").values
    measured = books["measured"].sum("step").values
    moved = np.abs(change).sum(axis=0)
    shown = np.sort(np.argsort(-np.nan_to_num(moved), kind="stable")[:_MOST_BARS])
    shown = shown[moved[shown] > 0]
    if not len(shown):
        raise ValueError(f"no charge of run {run.path} was moved: there is no budget to draw")
    figure = Figure(figsize=(8.2, 1.3 + 0.34 * len(shown)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(shown))[::-1]
    ends = {1: np.zeros(len(shown)), -1: np.zeros(len(shown))}
    for k, part in enumerate(parts):
        share = change[k, shown] / moved[shown]
        if not np.nan_to_num(share).any():
            continue
        # Positive shares stack to the right, negative ones to the left.
        begin = np.where(share >= 0, ends[1], ends[-1])
        bars = axes.barh(rows, share, left=begin, height=0.7, color=OKABE_ITO[k], label=part.replace("_", " "))
        for bar in bars:
            bar.set(hatch=_HATCHES[k % len(_HATCHES)], edgecolor="white", linewidth=0.4)
        ends[1] += np.maximum(share, 0)
        ends[-1] += np.minimum(share, 0)
    axes.plot(measured[shown] / moved[shown], rows, "D", color=INK, markersize=4, label="measured change")
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_xlim(-1.05, 1.05)
    names = zip(books["layer"].values[shown], books["kind"].values[shown], strict=True)
    axes.set_yticks(rows, [literal(f"{shortened(layer, 30)}: {kind}") for layer, kind in names])
    tidy(axes, title="What moved the charges, by cause", xlabel="part of all that moved the charges of the layer")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def forecast_norms(run: Run, forecast: Forecast | None = None) -> Figure:
    """|θ| of scale-free groups as measured and as forecast with its interval, a panel a family.

    ``forecast`` is one of `run.forecast(…)` or `run.what_if(…)`, by default the first. ValueError where it has none.
    """
    told = forecast or run.forecast()
    if not len(told.scales):
        raise ValueError(
            f"nothing is forecast for run {run.path}: {'; '.join(told.withheld) or 'no scale-free weights'}"
        )
    names = list(dict.fromkeys(told.paths["family"].values.astype(str).tolist()))[:_MOST_PANELS]
    columns = min(3, len(names))
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.7 * -(-len(names) // columns) + 0.5), layout="constrained")
    panels = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_family(axes, run, told, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    return figure


def _draw_family(axes: Axes, run: Run, told: Forecast, family: str) -> None:
    data, paths = run.data, told.paths
    mine = np.flatnonzero(paths["family"].values.astype(str) == family)
    at = {str(label): k for k, label in enumerate(data["label"].values)}
    chosen = mine[spread(paths["norm"].values[-1, mine], _LINES)]
    for first, k in enumerate(chosen):
        norm = np.sqrt(np.maximum(data["charge"].values[:, at[str(paths["label"].values[k])]], 0.0))
        said = ("measured", "forecast", "two standard errors") if first == 0 else (None, None, None)
        ahead = paths["step"].values
        axes.fill_between(
            ahead, paths["low"].values[:, k], paths["high"].values[:, k], color=MEASURED, linewidth=0, label=said[2]
        )
        axes.plot(data["step"].values, norm, color=BLUE, linewidth=1.1, label=said[0])
        axes.plot(ahead, paths["norm"].values[:, k], color=VERMILLION, linewidth=1.1, linestyle="--", label=said[1])
    axes.axvline(told.step, color=FAINT, linewidth=0.8, linestyle=":")
    axes.margins(x=0)
    tidy(axes, title=shortened(family, 34), xlabel="step", ylabel="norm")


def findings_list(run: Run) -> Figure:
    """The findings of a run as a picture for slides: each with its place and remedy, the gravest first."""
    found: list[Finding] = run.findings()
    texts = [(finding, _wrapped(finding)) for finding in found]
    heights = [1 + text.count("\n") for _, text in texts]
    total = max(1.0, sum(height + 0.8 for height in heights))
    figure = Figure(figsize=(8.2, 0.6 + 0.19 * total), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, total))
    axes.set_title("Findings", fontsize=9.5, color=INK, loc="left")
    top = total
    for (finding, text), height in zip(texts, heights, strict=True):
        colour = VERMILLION if finding.weight >= GRAVE else MEASURED
        axes.plot([0.005, 0.005], [top, top - height], color=colour, linewidth=3, solid_capstyle="butt")
        axes.text(0.02, top, literal(text), fontsize=8.5, color=INK, va="top", linespacing=1.2)
        top -= height + 0.8
    if not found:
        axes.text(0.02, top, "Nothing was found that its owner should know.", fontsize=8.5, color=INK, va="top")
    return figure


def _wrapped(finding: Finding) -> str:
    where = ", ".join(finding.place[:3]) or "the whole run"
    return "\n".join(fill(text, 100) for text in (finding.text, f"where: {where}", f"what to do: {finding.remedy}"))
