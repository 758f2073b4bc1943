"""Annealing schedules: learning rate, momentum and batch on top, the charges and their laws below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import BLUE, MEASURED, OKABE_ITO, frame, tidy
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.law_marks import OSCILLATOR
from neuralmechanics.report.paper.drawing.panels import (
    KINDS,
    blank,
    clear_inner_labels,
    family_for,
    grid,
    kind_label,
    legend_below,
    note_errors,
)
from neuralmechanics.report.paper.drawing.settings import error_table, label
from neuralmechanics.report.paper.momentum import law_handles, overlay
from neuralmechanics.report.source import kinds, of_family, scalars, spread

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from neuralmechanics.report.source import RunLike


def schedules(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """A column a run: time step η/(1-β) on top, four charges of each kind below, under exact law and modified flow.

    Source: Kunin et al., ICLR 2021, annealing (doubling the batch, halving the learning rate).
    """
    errors = error_table(runs)
    present = [kind for kind in KINDS if any(kind in kinds(run.data) for run in runs)]
    figure, panels = grid(1 + len(present), len(runs))
    for column, run in enumerate(runs):
        top = panels[0, column]
        used = _time_step(run)
        time, word = time_axis(run)
        top.step(time, used, where="post", color=BLUE, linewidth=1.4)
        top.set_ylim(0, 1.1 * np.nanmax(used))
        top.margins(x=0)
        tidy(top, title=label(run, "schedule", "model"), xlabel=word, ylabel="η / (1 − β)")
        for row, kind in enumerate(present, start=1):
            axes = panels[row, column]
            if kind not in kinds(run.data):
                blank(axes, f"no {kind} charges")
                continue
            family = family_for(run, kind, ())
            part = of_family(run.data, family)
            positions = spread(part["charge"].values[0], 4)
            frame(
                axes,
                [
                    overlay(axes, part.isel(charge=[position]), colour, time)
                    for position, colour in zip(positions, OKABE_ITO, strict=False)
                ],
            )
            tidy(axes, xlabel=word, ylabel=kind_label(kind))
            note_errors(axes, [(run, family)], list(OSCILLATOR))
    clear_inner_labels(panels)
    measured = Line2D([], [], color=MEASURED, linewidth=4, label="measured, a colour a charge")
    legend_below(figure, [measured, *law_handles()])
    return figure, errors


def _time_step(run: RunLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    used = scalars(run.data)
    if "learning_rate" not in used:
        raise ValueError("the run's learning rate differs between charges: there is no one schedule to draw")
    # In units of the effective step, which annealings with the same dynamics leave alone.
    return used["learning_rate"] / (1 - used.get("momentum", np.float64(0.0)))
