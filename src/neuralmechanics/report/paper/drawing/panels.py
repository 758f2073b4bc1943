"""Grids of panels that share their look: rows and columns with headings, one legend below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from neuralmechanics.experiments.config import SUM
from neuralmechanics.report.palette import AXIS_LABELS, FAINT, INK, law_styles, literal
from neuralmechanics.report.source import RunLike, families, kinds, of_family, telling_family

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from numpy.typing import NDArray

KINDS = ("translation", "scale", "rescale")


def grid(rows: int, columns: int, *, width: float = 2.9, height: float = 2.3) -> tuple[Figure, NDArray[np.object_]]:
    """A figure of ``rows`` by ``columns`` panels, steps shared along columns."""
    figure = Figure(figsize=(width * columns + 0.5, height * rows + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex="col")


def clear_inner_labels(panels: NDArray[np.object_]) -> None:
    """Axis titles at the rim only."""
    for row in range(panels.shape[0]):
        for column in range(panels.shape[1]):
            if row < panels.shape[0] - 1:
                panels[row, column].set_xlabel("")
            if column:
                panels[row, column].set_ylabel("")


def legend_below(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """All entries in one legend under the panels, as many side by side as the figure's width takes."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    # A letter of this size is a fourteenth of an inch wide, a line's picture and the gaps are half an inch.
    columns = int(figure.get_figwidth() / (longest / 14 + 0.55))
    ncols = max(1, min(columns, len(handles)))
    # Room of its own for every row beyond the second: the panels keep their size.
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, -(-len(handles) // ncols) - 2))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=8)


def blank(axes: Axes, text: str) -> None:
    """A panel for which no run exists, saying so."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, literal(text), ha="center", va="center", fontsize=8, color=FAINT, transform=axes.transAxes)


def run_with(runs: Sequence[RunLike], kind: str) -> RunLike | None:
    """The run to show a kind on, as the paper does: norms where they are, all else on the network without norms."""
    having = [run for run in runs if kind in kinds(run.data)]
    # False sorts before True: a network without norms is taken where there is one.
    return min(having, key=lambda run: "scale" in kinds(run.data), default=None)


def family_for(run: RunLike, kind: str, wanted: Sequence[str]) -> str:
    """The first family of ``kind`` in the run whose name contains one of ``wanted``, else the most telling one."""
    # Sums over a layer have a figure of their own.
    names = [name for name in families(run.data, kind) if not name.endswith(SUM)]
    return next((name for part in wanted for name in names if part in name), telling_family(run.data, kind))


def typical_charge(data: xr.Dataset, family: str) -> xr.Dataset:
    """The one charge of a family whose size at the start is in the middle."""
    part = of_family(data, family)
    order = np.argsort(np.abs(part["charge"].values[0]), kind="stable")
    return part.isel(charge=[int(order[len(order) // 2])])


def note_errors(axes: Axes, shown: Sequence[tuple[RunLike, str]], drawn: Sequence[str]) -> None:
    """Over the panel: the largest error of each law at all charges of the shown (run, family), as the table has it.

    Lines that lie on one another cannot be told apart by eye; these numbers can.
    """
    tables = [errors[errors["family"] == family] for errors, family in ((run.errors(), name) for run, name in shown)]
    parts = []
    for law in drawn:
        found = [float(error) for table in tables for error in table.loc[table["law"] == law, "max_error"]]
        if any(error == error for error in found):
            parts.append(f"{law_styles([law])[law].label} {brief(float(np.nanmax(found)))}")
    together = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
    lines = textwrap.wrap(f"largest error: {together}", 62)
    text = axes.text(0, 1.02, "\n".join(lines), fontsize=6.3, color=INK, transform=axes.transAxes, va="bottom")
    text.set_linespacing(1.15)
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=9.5, color=INK, pad=6 + 7.6 * len(lines))


def brief(value: float) -> str:
    """One significant digit.

    >>> brief(3.4e-07), brief(0.186), brief(0.0), brief(43000.0)
    ('3e-7', '0.2', '0', '4e4')
    """
    if value == 0 or 0.01 <= value < 100:
        return f"{value:.1g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def kind_label(kind: str) -> str:
    """A kind as the title of a vertical axis."""
    return AXIS_LABELS.get(kind, kind)
