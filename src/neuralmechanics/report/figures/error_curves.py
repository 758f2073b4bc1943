"""Error of every law over time on a logarithmic axis, a panel for each kind of symmetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from neuralmechanics.monitor.reading.errors import nonfinite_step
from neuralmechanics.report.figures.law_curves import legend_handles
from neuralmechanics.report.palette import KIND_LABELS, in_reading_order, law_styles, tidy
from neuralmechanics.report.scores import largest_error, relative_errors, typical_error
from neuralmechanics.report.source import RunLike, kinds, laws, steps, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Half the spacing of doubles at 1: an error of zero is drawn here, since a logarithm has no place for it.
FLOOR = 2.0**-54
MOST_POINTS = 1000


def errors_over_time(run: RunLike) -> Figure:
    """Largest (line) and typical (band's lower edge, root mean square) error over all charges of a kind.

    Errors are relative to the size of the charge at the start. A law that is exact to the last bit is drawn at 2⁻⁵⁴.
    """
    data = run.data
    drawn = in_reading_order(laws(data))
    present = kinds(data)
    if not drawn or not present:
        raise ValueError("the run predicts no charge: there is no error to draw")
    errors = relative_errors(data)
    kind_of = data["kind"].values.astype(str)
    figure = Figure(figsize=(3.6 * len(present) + 0.4, 3.7), layout="constrained")
    panels = figure.subplots(1, len(present), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, present, strict=True):
        mine = np.flatnonzero(kind_of == kind)
        for law in drawn:
            _draw_law(axes, steps(data), errors.sel(law=law).values[:, mine], law, drawn)
        axes.set_yscale("log")
        axes.margins(x=0)
        ylabel = "error / size at the start" if axes is panels[0] else ""
        lost = nonfinite_step(data, mine)
        title = f"{KIND_LABELS.get(kind, kind)} ({len(mine)})" + (
            "" if lost is None else f"\nnot finite from step {lost}"
        )
        tidy(axes, title=title, xlabel="step", ylabel=ylabel)
    handles = legend_handles(drawn)[1:]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw_law(axes: Axes, step: NDArray[np.float64], errors: NDArray[np.float64], law: str, drawn: list[str]) -> None:
    keep = thinned(len(step), MOST_POINTS)
    style = law_styles(drawn)[law]
    largest, typical = largest_error(errors[keep]), typical_error(errors[keep])
    if np.isnan(errors).all():
        return
    # Zeros throughout, which `largest_error` gives as nan: a law that is right to the last bit has a line of its own.
    if np.isnan(largest).all():
        largest = typical = np.full(len(keep), FLOOR)
    largest, typical = (_finite(np.maximum(values, FLOOR)) for values in (largest, typical))
    (line,) = axes.plot(step[keep], largest, color=style.colour, linewidth=1.3)
    line.set_linestyle(style.dash)
    axes.fill_between(step[keep], typical, largest, color=style.colour, alpha=0.13, linewidth=0)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)
