"""Many lines as one picture: quantile bands around the median and a few of the lines themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.report.source import spread, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

BANDS = ((0.0, 1.0, 0.10), (0.05, 0.95, 0.16), (0.25, 0.75, 0.26))
BAND_WORDS = "their whole range, the middle 90 % and the middle 50 %"
MOST_POINTS = 1500


def draw_bands(
    axes: Axes, step: NDArray[np.float64], values: NDArray[np.float64], colour: str, *, lines: int = 24
) -> None:
    """Range, 90 % and 50 % bands of ``values`` [step, line] and ``lines`` of them, spread over the final values."""
    keep = thinned(len(step), MOST_POINTS)
    step, values = step[keep], values[keep]
    finite = values[:, np.isfinite(values).all(axis=0)]
    if finite.shape[1] == 0:
        raise ValueError("no finite values to draw: the training diverged or nothing was recorded")
    if finite.shape[1] > lines:
        for low, high, alpha in BANDS:
            edges = np.quantile(finite, (low, high), axis=1)
            axes.fill_between(step, edges[0], edges[1], color=colour, alpha=alpha, linewidth=0)
    for position in spread(finite[-1], lines):
        axes.plot(step, finite[:, position], color=colour, linewidth=0.6, alpha=0.75)
    axes.margins(x=0)
