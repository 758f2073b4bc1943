"""Charges under momentum: every kind for every momentum and dampening, a colour for each weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import colours, frame, tidy
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.law_marks import OSCILLATOR, draw_law, mark_handles
from neuralmechanics.report.paper.drawing.panels import (
    KINDS,
    blank,
    family_for,
    grid,
    kind_label,
    legend_below,
    note_errors,
    run_with,
    typical_charge,
)
from neuralmechanics.report.paper.drawing.settings import distinct, error_table, label, matching
from neuralmechanics.report.source import laws

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from neuralmechanics.report.source import RunLike


# How many times larger one charge is than another before the small one is a line at zero.
_WIDE = 12.0


def momentum(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """Rows (β, α), columns kinds; wide: one measured charge for each λ; dashed: the paper's oscillator.

    The oscillator is the modified flow h(1+β)/2 q'' + (1−β) q' + λ q = 0, with 2λ and a drive for squared norms.

    Source: Kunin et al., ICLR 2021, appendix (batch 128, β ∈ {.8, .9, .99}, α ∈ {0, .01}).
    """
    errors = error_table(runs)
    rows, decays = distinct(runs, "momentum", "dampening"), distinct(runs, "weight_decay")
    figure, panels = grid(len(rows), len(KINDS))
    for row, values in enumerate(rows):
        here = matching(runs, ("momentum", "dampening"), values)
        for column, kind in enumerate(KINDS):
            axes, measured, shown = panels[row, column], [], []
            for decay, colour in zip(decays, colours(len(decays)), strict=True):
                run = run_with(matching(here, ("weight_decay",), decay), kind)
                if run is not None:
                    family = family_for(run, kind, ())
                    shown.append((run, family))
                    time, word = time_axis(run)
                    measured.append(overlay(axes, typical_charge(run.data, family), colour, time))
            if not measured:
                blank(axes, f"no {kind} charges")
                continue
            # What was measured sets the frame: a law that runs away is cut at its edge.
            frame(axes, measured)
            _see_the_small_ones(axes, measured)
            tidy(axes, title=label(here[0], "momentum", "dampening"), xlabel=word, ylabel=kind_label(kind))
            note_errors(axes, shown, list(OSCILLATOR))
    for row in range(len(rows) - 1):
        for axes in panels[row]:
            axes.set_xlabel("")
    named = [matching(runs, ("weight_decay",), decay)[0] for decay in decays]
    handles = [
        Line2D([], [], color=colour, linewidth=4, alpha=0.45, label=f"measured, {label(run, 'weight_decay')}")
        for run, colour in zip(named, colours(len(named)), strict=True)
    ]
    legend_below(figure, handles + law_handles())
    return figure, errors


def _see_the_small_ones(axes: Axes, measured: Sequence[NDArray[np.float64]]) -> None:
    """A logarithmic axis but for around zero, where one charge grows without decay beside another that oscillates."""
    sizes = [float(np.nanmax(np.abs(values))) for values in measured]
    if max(sizes) > _WIDE * min(sizes) > 0:
        axes.set_yscale("symlog", linthresh=1.5 * min(sizes))


def overlay(axes: Axes, part: xr.Dataset, colour: str, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """One measured charge, wide and pale, under the laws of ``OSCILLATOR``; what was measured, to set the frame."""
    measured: NDArray[np.float64] = part["charge"].values[:, 0].astype(np.float64)
    axes.plot(time, measured, color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt")
    for law, mark in OSCILLATOR.items():
        if law in laws(part):
            draw_law(axes, time, part["predicted"].sel(law=law).values.reshape(len(time)), mark)
    return measured


def law_handles() -> list[Line2D]:
    """Legend entries of the laws of ``OSCILLATOR``."""
    return mark_handles(list(OSCILLATOR), OSCILLATOR, {"modified_flow": "the paper's oscillator (modified flow)"})
