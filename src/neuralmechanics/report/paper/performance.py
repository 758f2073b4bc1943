"""Loss and accuracy over the trainings behind the other figures, a colour for each weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import INK, colours, tidy
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.panels import legend_below
from neuralmechanics.report.paper.drawing.settings import distinct, error_table, label, matching
from neuralmechanics.report.source import metrics_of, scalars

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from neuralmechanics.report.source import RunLike

# Training losses are those of single batches: they are averaged over so many records before they are drawn.
_WINDOW = 15


def performance(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """A row a network: training (thin) and test loss (thick), top-1 (thick) and top-5 accuracy on the test set.

    Raises `ValueError` where no run was evaluated. Source: Kunin et al., ICLR 2021, appendix.
    """
    errors = error_table(runs)
    if not any(metrics_of(run) is not None for run in runs):
        raise ValueError("no run was evaluated: train with the metric 'performance' to draw its loss and accuracy")
    models, decays = distinct(runs, "model"), distinct(runs, "weight_decay")
    figure = Figure(figsize=(8.4, 2.7 * len(models) + 0.7), layout="constrained")
    panels = figure.subplots(len(models), 2, squeeze=False, sharex=True)
    for row, model in enumerate(models):
        for decay, colour in zip(decays, colours(len(decays)), strict=True):
            for run in matching(runs, ("model", "weight_decay"), (*model, *decay))[:1]:
                word = _draw(panels[row, 0], panels[row, 1], run, colour)
                tidy(panels[row, 0], title=label(run, "model", "data"), xlabel=word, ylabel="loss")
                tidy(panels[row, 1], xlabel=word, ylabel="accuracy on the test set")
    for axes in panels[:-1].flat:
        axes.set_xlabel("")
    named = [matching(runs, ("weight_decay",), decay)[0] for decay in decays]
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=label(run, "weight_decay"))
        for run, colour in zip(named, colours(len(named)), strict=True)
    ]
    thick = Line2D([], [], color=INK, linewidth=1.8, label="test loss (left), top-1 accuracy (right)")
    words = f"training loss, mean of {_WINDOW} records (left), top-5 accuracy (right)"
    thin = Line2D([], [], color=INK, linewidth=0.8, linestyle="--", label=words)
    legend_below(figure, [*handles, thick, thin])
    return figure, errors


def _draw(left: Axes, right: Axes, run: RunLike, colour: str) -> str:
    time, word = time_axis(run)
    loss = scalars(run.data).get("loss")
    if loss is not None:
        left.plot(time, _smoothed(loss), color=colour, linewidth=0.8, linestyle="--")
    metrics: Any = metrics_of(run)
    if metrics is not None and "performance/loss" in metrics:
        at, _ = time_axis(run, np.asarray(metrics["evaluation"].values, dtype=np.float64))
        left.plot(at, metrics["performance/loss"].values, color=colour, linewidth=1.8)
        right.plot(at, metrics["performance/top1"].values, color=colour, linewidth=1.8)
        right.plot(at, metrics["performance/top5"].values, color=colour, linewidth=0.8, linestyle="--")
    for axes in (left, right):
        axes.margins(x=0)
    right.set_ylim(0, 1.02)
    return word


def _smoothed(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean over as many neighbours as there are, at most `_WINDOW`, centred; nan, before any loss, left out."""
    known = np.where(np.isfinite(values), values, 0.0)
    window = np.ones(min(_WINDOW, len(values)))
    # Divided by how many there are, so that ends and gaps are no smaller than the rest.
    count = np.convolve(np.isfinite(values).astype(float), window, mode="same")
    total = np.convolve(known, window, mode="same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
