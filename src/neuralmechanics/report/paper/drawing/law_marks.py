"""Laws on measured charges, told apart where they coincide: a dashed formula, circles and crosses in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from neuralmechanics.report.figures.bands import BANDS
from neuralmechanics.report.palette import INK, LAW_STYLES, MEASURED, frame, law_styles
from neuralmechanics.report.source import laws, spread, thinned

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MOST_POINTS = 1000
_MARKS = 9


@dataclass(frozen=True)
class Mark:
    """How a law is drawn over others: a pen, a dash or none, a marker or none, where the first marker stands."""

    colour: str
    dash: Any
    marker: str
    shift: float = 0.0


# On the measured lines these coincide: the formula is a dashed line, the others are marks beside one another.
MARKS = {
    "first_order": Mark(INK, (0, (4, 3)), ""),
    "exact": Mark(LAW_STYLES["exact"].colour, "", "o", 0.25),
    "modified_flow": Mark(LAW_STYLES["modified_flow"].colour, "", "x", 0.75),
}
# With momentum the paper's formula is the oscillator of the modified flow.
OSCILLATOR = {
    "modified_flow": Mark(INK, (0, (4, 3)), ""),
    "exact": Mark(LAW_STYLES["exact"].colour, "", "o", 0.25),
}


def mark_of(law: str, marks: dict[str, Mark]) -> Mark:
    """The mark of a law; a thin line as everywhere for those without one."""
    return marks[law] if law in marks else Mark(law_styles([law])[law].colour, law_styles([law])[law].dash, "")


def draw_law(axes: Axes, time: NDArray[np.float64], values: NDArray[np.float64], mark: Mark) -> Line2D:
    """One prediction."""
    (line,) = axes.plot(time, values, color=mark.colour, linewidth=1.15, zorder=4)
    line.set_linestyle(mark.dash or "none")
    if mark.marker:
        every = max(1, len(time) // _MARKS)
        line.set(marker=mark.marker, markersize=4.2, markerfacecolor="none", markeredgewidth=1.0, zorder=5)
        line.set_markevery((int(mark.shift * every), every))
    return line


def draw_charges(
    axes: Axes, time: NDArray[np.float64], part: xr.Dataset, drawn: Sequence[str], *, charges: int = 3
) -> None:
    """All charges of a family as quantile bands, some of them as wide lines, and every law on those.

    The axis is set by what was measured: a law that leaves it runs out of the picture.
    """
    keep = thinned(part.sizes["step"], MOST_POINTS)
    measured = part["charge"].values.astype(np.float64)[keep]
    time = time[keep]
    finite = measured[:, np.isfinite(measured).all(axis=0)]
    if finite.shape[1] > charges:
        for low, high, alpha in BANDS:
            edges = np.quantile(finite, (low, high), axis=1)
            axes.fill_between(time, edges[0], edges[1], color=MEASURED, alpha=1.6 * alpha, linewidth=0)
    positions = spread(measured[0], charges)
    for position in positions:
        axes.plot(time, measured[:, position], color=MEASURED, linewidth=4.0, solid_capstyle="round", zorder=2)
    for law in drawn:
        predicted = part["predicted"].sel(law=law).transpose("step", "charge").values.astype(np.float64)[keep]
        for position in positions:
            draw_law(axes, time, predicted[:, position], mark_of(law, MARKS))
    frame(axes, [finite if finite.shape[1] else measured])


def mark_handles(drawn: Sequence[str], marks: dict[str, Mark], words: dict[str, str]) -> list[Line2D]:
    """Legend entries of laws; `words` stand in place of a law's usual name."""
    handles = []
    for law in drawn:
        mark = mark_of(law, marks)
        handle = Line2D([], [], color=mark.colour, linewidth=1.2, label=words.get(law, law_styles([law])[law].label))
        handle.set_linestyle(mark.dash or "none")
        if mark.marker:
            handle.set(marker=mark.marker, markersize=4.5, markerfacecolor="none")
        handles.append(handle)
    return handles


def drawn_laws(part: xr.Dataset) -> list[str]:
    """The laws of a run that pictures show; the identity is measured anew at every record and always lies on it."""
    known = [law for law in LAW_STYLES if law in laws(part)]
    return [law for law in known if law != "identity"] + [law for law in laws(part) if law not in LAW_STYLES]
