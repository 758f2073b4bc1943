"""Measured charges against every law, one family of each kind (the paper's Fig. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmechanics.report.palette import AXIS_LABELS, MEASURED, frame, in_reading_order, law_styles, shortened, tidy
from neuralmechanics.report.source import RunLike, kinds, laws, of_family, spread, steps, telling_family, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.axes import Axes

SHOWN = 5
MOST_POINTS = 1000


def charges_and_laws(
    run: RunLike, families: Sequence[str] | None = None, only: Sequence[str] | None = None, charges: int = SHOWN
) -> Figure:
    """Measured charges (wide grey) and each law's prediction (thin, coloured), a panel a family.

    ``families`` defaults to the most telling one of each kind, ``only`` to all laws; of each family ``charges`` are
    drawn, spread over the sizes at the start. Source: Kunin et al., ICLR 2021, Fig. 5.
    """
    data = run.data
    drawn = in_reading_order(only if only is not None else laws(data))
    missing = [law for law in drawn if law not in laws(data)]
    if missing:
        raise ValueError(f"the run has no law {missing[0]!r}; it has: {', '.join(laws(data)) or 'none'}")
    known = list(dict.fromkeys(data["family"].values.astype(str).tolist()))
    if isinstance(families, str):
        raise TypeError(f"families={families!r} is one name; give a list of them, families=[{families!r}]")
    strange = [name for name in families or () if name not in known]
    if strange:
        raise ValueError(f"the run has no family {strange[0]!r}; families: {', '.join(known)}")
    names = list(families) if families is not None else [telling_family(data, kind) for kind in kinds(data)]
    if not names:
        raise ValueError("the run follows no charge: its model has no symmetry that has one")
    figure = Figure(figsize=(3.6 * len(names) + 0.4, 3.7), layout="constrained")
    for axes, family in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        draw_family(axes, of_family(data, family), drawn, charges)
    figure.legend(handles=legend_handles(drawn), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def draw_family(axes: Axes, data: xr.Dataset, drawn: Sequence[str], charges: int = SHOWN) -> None:
    """One panel: some charges of one family, measured and predicted.

    The axis is set by the measured charges: a law that leaves them runs out of the picture.
    """
    keep = thinned(data.sizes["step"], MOST_POINTS)
    step = steps(data)[keep]
    measured = data["charge"].values.astype(np.float64)[keep]
    if measured.shape[1] == 0:
        raise ValueError("no charge to draw: the run holds none of this family")
    positions = spread(measured[0], charges)
    styles = law_styles(drawn)
    for position in positions:
        axes.plot(step, measured[:, position], color=MEASURED, linewidth=4.0, solid_capstyle="round", zorder=2)
    # The most exact law is drawn last, on top.
    for order, law in enumerate(reversed(drawn)):
        predicted = data["predicted"].sel(law=law).transpose("step", "charge").values.astype(np.float64)[keep]
        style = styles[law]
        lines = axes.plot(step, predicted[:, positions], color=style.colour, linewidth=1.2, zorder=3 + order)
        for line in lines:
            line.set_linestyle(style.dash)
    frame(axes, [measured[:, positions]])
    family, kind = str(data["family"].values[0]), str(data["kind"].values[0])
    tidy(axes, title=shortened(family, 40), xlabel="step", ylabel=AXIS_LABELS.get(kind, kind))


def legend_handles(drawn: Sequence[str]) -> list[Line2D]:
    """Legend entries for the measured charge and the laws."""
    measured = Line2D([], [], color=MEASURED, linewidth=4.0, label="measured")
    styles = law_styles(drawn)
    return [measured] + [
        Line2D([], [], color=styles[law].colour, linestyle=styles[law].dash, linewidth=1.4, label=styles[law].label)
        for law in drawn
    ]
