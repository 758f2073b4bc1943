"""Fig. 1: raw parameters against per-filter squared norms over training, every layer, a colour a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import AXIS_LABELS, FAINT, INK, colours, literal, tidy
from neuralmechanics.report.paper.drawing.blocks import block_of_parameters, blocks
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.panels import legend_below, run_with
from neuralmechanics.report.paper.drawing.settings import error_table, label
from neuralmechanics.report.source import RawWeights, default_family, of_family, raw_weights, spread, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from neuralmechanics.report.source import RunLike

# Lines of each layer, and points of each line.
LINES, POINTS = 10, 800
# Norms that differ by more than this are drawn on a logarithmic axis.
_WIDE = 30.0


def fig1(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """Raw weights (left) and charges (right) of all layers of the first run with norms, and the errors of all laws.

    Raises `ValueError` where the run recorded no raw weights.
    Source: Kunin et al., ICLR 2021, Fig. 1 (VGG-16-BN on Tiny ImageNet, η = .1, λ = 1e-4, batch 256).
    """
    errors = error_table(runs)
    run = run_with(runs, "scale") or runs[0]
    raw = raw_weights(run)
    if raw is None:
        raise ValueError("the run recorded no raw weights: train with the metric 'weights-subset' to draw them")
    kind = str(of_family(run.data, default_family(run.data))["kind"].values[0])
    found = blocks(run.data, kind)
    # One more, for parameters that belong to no block.
    pens = colours(len(found) + 1)
    figure = Figure(figsize=(9.4, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    rest = _draw_weights(left, run, raw, block_of_parameters(list(dict.fromkeys(raw.parameters)), found), pens)
    total = _draw_charges(right, run, [(pen, name) for pen, b in zip(pens, found, strict=False) for name in b.families])
    time = time_axis(run)[1]
    tidy(left, title=f"raw weights of {_layers(raw)}", xlabel=time, ylabel="weight − weight at the start")
    title = f"{total} charges of {sum(len(block.families) for block in found)} layers"
    tidy(right, title=title, xlabel=time, ylabel=AXIS_LABELS.get(kind, kind))
    named = [block.name for block in found] + (["all other layers"] if rest else [])
    handles = [
        Line2D([], [], color=pen, linewidth=2, label=literal(name)) for name, pen in zip(named, pens, strict=False)
    ]
    legend_below(figure, handles)
    settings = label(run, "model", "data", "learning_rate", "weight_decay", "momentum", "batch_size")
    figure.suptitle(literal(f"{settings}; up to {LINES} lines a layer"), fontsize=9, color=INK)
    return figure, errors


def _layers(raw: RawWeights) -> str:
    names = len(dict.fromkeys(raw.parameters))
    return f"all {names} parameters" if names else f"{len(raw.names)} parameters"


def _draw_weights(axes: Axes, run: RunLike, raw: RawWeights, block: dict[str, int], pens: Sequence[str]) -> bool:
    """Some weights of every parameter; whether any belongs to no block."""
    time, _ = time_axis(run, raw.step)
    owners = np.array(raw.parameters) if raw.parameters else np.full(len(raw.names), "")
    for name in dict.fromkeys(owners.tolist()):
        mine = raw.moved[:, owners == name]
        # Without names all weights have one quiet colour.
        pen = pens[block[name]] if name else FAINT
        _lines(axes, time, mine, pen)
    return any(number == len(pens) - 1 for number in block.values())


def _draw_charges(axes: Axes, run: RunLike, shown: Sequence[tuple[str, str]]) -> int:
    time, _ = time_axis(run)
    low, high, total = np.inf, 0.0, 0
    for pen, family in shown:
        values = of_family(run.data, family)["charge"].values.astype(np.float64)
        _lines(axes, time, values, pen)
        finite = values[np.isfinite(values)]
        low, high, total = min(low, float(finite.min())), max(high, float(finite.max())), total + values.shape[1]
    if low > 0 and high > _WIDE * low:
        axes.set_yscale("log")
    return total


def _lines(axes: Axes, time: NDArray[np.float64], values: NDArray[np.float64], pen: str) -> None:
    keep = thinned(len(time), POINTS)
    finite = values[keep][:, np.isfinite(values).all(axis=0)]
    if finite.shape[1] == 0:
        raise ValueError("no finite values to draw: the training diverged or nothing was recorded")
    for position in spread(finite[-1], LINES):
        axes.plot(time[keep], finite[:, position], color=pen, linewidth=0.7, alpha=0.7)
    axes.margins(x=0)
