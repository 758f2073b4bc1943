"""Phase portraits: a norm against its velocity, one trajectory a channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neuralmechanics.report.palette import FAINT, INK, tidy
from neuralmechanics.report.paper.drawing.panels import family_for, kind_label, note_errors, run_with
from neuralmechanics.report.paper.drawing.settings import error_table, label
from neuralmechanics.report.source import kinds, of_family, spread, steps, thinned

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from neuralmechanics.report.source import RunLike

TRAJECTORIES = 8
MOST_POINTS = 600
COLOURS = "cividis"


def phase(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """A panel a run: n along, dn/dstep upwards, coloured from the first step (dark) to the last (light).

    Where velocity crosses zero the norm stands still: its equilibrium under weight decay and noise.
    Source: Kunin et al., ICLR 2021, phase portraits.
    """
    errors = error_table(runs)
    # Norms are what the paper shows; other charges where there is no norm at all.
    shown = [run for run in runs if "scale" in kinds(run.data)] or [run for run in runs if kinds(run.data)]
    if not shown:
        raise ValueError("no run follows a charge: nothing to draw a phase portrait of")
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.6, 2.7 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, run in zip(panels.flat, shown, strict=False):
        kind = "scale" if run_with([run], "scale") is run else kinds(run.data)[0]
        family = family_for(run, kind, ())
        _draw(axes, of_family(run.data, family))
        title = f"{label(run, 'model')}, {label(run, 'learning_rate', 'weight_decay')}"
        tidy(axes, title=title, xlabel=kind_label(kind), ylabel="change per step")
        _in_powers_of_ten(axes)
        note_errors(axes, [(run, family)], ("exact", "modified_flow"))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=list(panels[:, -1]), fraction=0.05)
    bar.set_label("part of the training (grey dot: start)", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    return figure, errors


def velocity(charge: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change per step at each record, by second-order differences along the first axis."""
    if len(step) < 2:
        return np.zeros_like(charge)
    slope: NDArray[np.float64] = np.gradient(charge, step, axis=0, edge_order=2 if len(step) > 2 else 1)
    return slope


def _in_powers_of_ten(axes: Axes) -> None:
    """Small changes per step as multiples of a power that the axis title names, not as rows of zeros."""
    exponent = math.floor(math.log10(max(map(abs, axes.get_ylim()))))
    if exponent < -1:
        axes.yaxis.set_major_formatter(lambda value, position: f"{value / 10.0**exponent:g}")
        axes.set_ylabel(f"change per step, in 1e{exponent}")


def _draw(axes: Axes, part: xr.Dataset) -> None:
    step = steps(part)
    charge = part["charge"].values.astype(np.float64)
    speed = velocity(charge, step)
    keep = thinned(len(step), MOST_POINTS)
    for position in spread(charge[0], TRAJECTORIES):
        points = np.stack([charge[keep, position], speed[keep, position]], axis=1)
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        lines = LineCollection(list(pieces), cmap=COLOURS, linewidths=1.2)
        # A piece has the colour of the step that it starts at.
        lines.set_array(step[keep][:-1])
        axes.add_collection(lines)
        axes.plot(*points[0], marker="o", markersize=3, color=FAINT)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.autoscale_view()
