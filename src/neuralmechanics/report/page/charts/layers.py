"""Charts of all layers side by side: how far their weights turn in a step, and the learning rate they see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.report.page.charts.chart import Block, Chart, Choice, Pen, spec
from neuralmechanics.report.palette import DASHES, colours, shortened
from neuralmechanics.report.source import thinned

if TYPE_CHECKING:
    import xarray as xr

    from neuralmechanics.monitor.reading.run import Run

_POINTS = 200
TITLES = {
    "rotation": (
        "Rotation by layer",
        "radians a step",
        "The angle by which one step turns the weights of a layer: the median over its scale-free groups. Layers that "
        "turn alike learn at one pace.",
    ),
    "effective_learning_rate": (
        "Effective learning rate by layer",
        "effective learning rate",
        "The learning rate that the directions of scale-free weights see, as their norms make it: the median over the "
        "groups of a layer.",
    ),
}


def layer_charts(run: Run, block: Block) -> list[Chart]:
    """Rotation and effective learning rate, a line a layer; none where nothing is scale-free."""
    found = run.turning()
    if not found.sizes["charge"]:
        return []
    keep = thinned(found.sizes["step"], _POINTS)
    pen = Pen(block, found["step"].values[keep].astype(np.float64))
    charts = []
    for name, (title, ylabel, text) in TITLES.items():
        medians = by_layer(found, name, keep)
        lines = [
            pen.line(y, name=shortened(layer), colour=colour, dash=DASHES[k % len(DASHES)], layer=layer)
            for k, ((layer, y), colour) in enumerate(zip(medians.items(), colours(len(medians)), strict=True))
            if np.isfinite(y).any()
        ]
        if lines:
            choice = Choice(spec(lines, ylabel=ylabel, logarithmic=True))
            charts.append(Chart(name.replace("_", "-"), title, text, "layers", {"all": choice}))
    return charts


def by_layer(found: xr.Dataset, name: str, keep: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The median over the groups of each layer at some of the steps."""
    values, owners = found[name].values[keep], found["layer"].values.astype(str)
    out = {}
    for layer in dict.fromkeys(owners.tolist()):
        mine = values[:, owners == layer]
        known = np.isfinite(mine).any(axis=1)
        median = np.full(len(mine), np.nan)
        if known.any():
            median[known] = np.nanmedian(np.where(np.isfinite(mine[known]), mine[known], np.nan), axis=1)
        out[layer] = np.where(median > 0, median, np.nan)
    return out
