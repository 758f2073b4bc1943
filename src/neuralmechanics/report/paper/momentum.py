"""Charges under momentum: every kind for every momentum and dampening, a colour for each weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import INK, OKABE_ITO, VERMILLION, frame, tidy
from neuralmechanics.report.paper.panels import (
    KINDS,
    blank,
    family_for,
    grid,
    kind_label,
    note_errors,
    run_with,
    typical_charge,
)
from neuralmechanics.report.paper.settings import distinct, error_table, label, matching
from neuralmechanics.report.source import laws, steps

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from neuralmechanics.report.source import RunLike

# Thin over the wide measured line: the law that should agree, and the oscillator that the paper draws.
OVERLAID = {"exact": (INK, "-"), "modified_flow": (VERMILLION, ":")}


def momentum(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """Rows (β, α), columns kinds; wide: one measured charge for each λ; thin: the exact law and the modified flow.

    Source: Kunin et al., ICLR 2021, appendix (batch 128, β ∈ {.8, .9, .99}, α ∈ {0, .01}).
    """
    errors = error_table(runs)
    rows, decays = distinct(runs, "momentum", "dampening"), distinct(runs, "weight_decay")
    figure, panels = grid(len(rows), len(KINDS))
    for row, values in enumerate(rows):
        here = matching(runs, ("momentum", "dampening"), values)
        for column, kind in enumerate(KINDS):
            axes, measured, shown = panels[row, column], [], []
            for decay, colour in zip(decays, OKABE_ITO, strict=False):
                run = run_with(matching(here, ("weight_decay",), decay), kind)
                if run is not None:
                    family = family_for(run, kind, ())
                    shown.append((run, family))
                    measured.append(overlay(axes, typical_charge(run.data, family), colour))
            if not measured:
                blank(axes, f"no {kind} charges")
                continue
            # What was measured sets the frame: a law that runs away is cut at its edge.
            frame(axes, measured)
            tidy(axes, title=label(here[0], "momentum", "dampening"), xlabel="step", ylabel=kind_label(kind))
            note_errors(axes, shown, list(OVERLAID))
    for row in range(len(rows) - 1):
        for axes in panels[row]:
            axes.set_xlabel("")
    named = [matching(runs, ("weight_decay",), decay)[0] for decay in decays]
    handles = [
        Line2D([], [], color=colour, linewidth=4, alpha=0.45, label=f"measured, {label(run, 'weight_decay')}")
        for run, colour in zip(named, OKABE_ITO, strict=False)
    ]
    figure.legend(handles=handles + law_handles(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure, errors


def overlay(axes: Axes, part: xr.Dataset, colour: str) -> NDArray[np.float64]:
    """One measured charge, wide and pale, under the laws of ``OVERLAID``, thin; what was measured, to set the frame."""
    step = steps(part)
    measured: NDArray[np.float64] = part["charge"].values[:, 0].astype(np.float64)
    axes.plot(step, measured, color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt")
    for law, (pen, dash) in OVERLAID.items():
        if law in laws(part):
            predicted = part["predicted"].sel(law=law).values.reshape(len(step))
            (line,) = axes.plot(step, predicted, color=pen, linewidth=1.1)
            line.set_linestyle(dash)  # type: ignore[arg-type]
    return measured


def law_handles() -> list[Line2D]:
    """Legend entries of the laws of ``OVERLAID``."""
    return [
        Line2D([], [], color=pen, linewidth=1.1, linestyle=dash, label=law.replace("_", " "))  # type: ignore[arg-type]
        for law, (pen, dash) in OVERLAID.items()
    ]
