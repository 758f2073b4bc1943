"""Sums of charges: over each layer, and over the whole network, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from neuralmechanics.experiments.config import SUM
from neuralmechanics.report.palette import INK, colours, frame, literal, tidy
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.law_marks import MARKS, draw_law, drawn_laws, mark_handles, mark_of
from neuralmechanics.report.paper.drawing.panels import (
    KINDS,
    blank,
    clear_inner_labels,
    grid,
    kind_label,
    legend_below,
    run_with,
)
from neuralmechanics.report.paper.drawing.settings import distinct, error_table, label, matching
from neuralmechanics.report.paper.fig5 import FORMULA
from neuralmechanics.report.source import families, of_family

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from neuralmechanics.report.source import RunLike

_LAWS = ("first_order", "exact", "modified_flow")


def sums(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """Rows kinds, columns λ: the sum of every layer's charges, pale, a colour a layer, and that of the network, wide.

    The laws are linear in the charges, so that what they predict of the sum is the sum of what they predict.
    Source: Kunin et al., ICLR 2021, appendix (layer-wise and network-wise sums).
    """
    errors = error_table(runs)
    decays = distinct(runs, "weight_decay")
    figure, panels = grid(len(KINDS), len(decays))
    drawn: list[str] = []
    for column, decay in enumerate(decays):
        for row, kind in enumerate(KINDS):
            axes = panels[row, column]
            run = run_with(matching(runs, ("weight_decay",), decay), kind)
            if run is None:
                blank(axes, f"no {kind} charges")
                continue
            time, word = time_axis(run)
            shown = [law for law in _LAWS if law in drawn_laws(run.data)]
            drawn += shown
            parts = layer_sums(run.data, kind)
            whole = np.sum(list(parts.values()), axis=0)
            for pen, part in zip(colours(len(parts)), parts.values(), strict=True):
                axes.plot(time, part[:, 0], color=pen, linewidth=1.6, alpha=0.6)
            axes.plot(time, whole[:, 0], color=INK, linewidth=4, alpha=0.25)
            names = ["charge", *_names(run.data)]
            for law in shown:
                draw_law(axes, time, whole[:, names.index(law)], mark_of(law, MARKS))
            frame(axes, [whole[:, :1], *(part[:, :1] for part in parts.values())])
            title = f"{label(run, 'weight_decay')}: {label(run, 'model')}, {len(parts)} families"
            tidy(axes, title=title, xlabel=word, ylabel=literal(f"sum: {kind_label(kind)}"))
    clear_inner_labels(panels)
    whole_handle = Line2D([], [], color=INK, linewidth=4, alpha=0.25, label="whole network")
    layer_handle = Line2D([], [], color=colours(1)[0], linewidth=1.6, alpha=0.6, label="each family, a colour each")
    handles = [whole_handle, layer_handle, *mark_handles(list(dict.fromkeys(drawn)), MARKS, FORMULA)]
    legend_below(figure, handles)
    return figure, errors


def _names(data: xr.Dataset) -> list[str]:
    return [str(law) for law in data["law"].values] if "predicted" in data else []


def layer_sums(data: xr.Dataset, kind: str) -> dict[str, NDArray[np.float64]]:
    """For each layer the sum of its charges, then of what each law of the run predicts of them, [step, 1 + law].

    Where a run recorded some charges of a layer alone, it recorded their sum as a family of its own.
    """
    names = families(data, kind)
    wholes = [name for name in names if not (name.endswith(SUM) or name + SUM in names)]
    found = {}
    for name in sorted([*wholes, *(name for name in names if name.endswith(SUM))], key=names.index):
        part = of_family(data, name)
        columns = [part["charge"].values.astype(np.float64).sum(axis=1)]
        columns += [
            part["predicted"].sel(law=law).transpose("step", "charge").values.astype(np.float64).sum(axis=1)
            for law in _names(data)
        ]
        found[name] = np.stack(columns, axis=1)
    return found
