"""The charts of the training itself: what was logged, the settings, how raw parameters moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.report.page.charts.chart import Block, Chart, Choice, Pen, spec
from neuralmechanics.report.palette import BLUE, DASHES, VERMILLION, colours
from neuralmechanics.report.source import RawWeights, RunLike, raw_weights, scalars, spread, steps, thinned

if TYPE_CHECKING:
    import xarray as xr

_POINTS, _LINES, _MOST_COURSES = 300, 40, 12
SETTINGS = ("learning_rate", "weight_decay", "momentum", "dampening")
_FLAGS = (*SETTINGS, "nesterov", "decoupled", "first_step", "active")


def training_charts(run: RunLike, block: Block) -> list[Chart]:
    """What was logged, the hyperparameters, raw weights: each where the run has it."""
    drawn = [_logged(run.data, block), _settings(run.data, block)]
    raw = raw_weights(run)
    if raw is not None:
        drawn.append(_parameters(raw, block))
    return [chart for chart in drawn if chart.choices]


def logged(data: xr.Dataset) -> list[str]:
    """The logged numbers, losses first."""
    names = [name for name in scalars(data) if name not in _FLAGS]
    return sorted(names, key=lambda name: (name != "loss", "loss" not in name))


def _logged(data: xr.Dataset, block: Block) -> Chart:
    keep, values = thinned(data.sizes["step"], _POINTS), scalars(data)
    pen = Pen(block, steps(data)[keep])
    choices = {
        name: Choice(spec([pen.line(values[name][keep], name=name, colour=BLUE)], ylabel=name)) for name in logged(data)
    }
    return Chart("training", "Training", "What the loop logged, at every record.", "quantity", choices)


def _settings(data: xr.Dataset, block: Block) -> Chart:
    """Each setting as the optimiser used it: a line for every course that some charge has seen."""
    keep = thinned(data.sizes["step"], _POINTS)
    pen = Pen(block, steps(data)[keep])
    choices = {}
    for name in SETTINGS:
        if name not in data or data[name].dims != ("step", "charge") or not data.sizes["charge"]:
            continue
        # Charges of one parameter group share their course: a line for each group and not for each charge.
        courses, owner, count = np.unique(
            data[name].values[keep].astype(np.float64), axis=1, return_inverse=True, return_counts=True
        )
        if not np.isfinite(courses).any() or not np.nan_to_num(courses).any():
            continue
        lines = []
        for k, colour in zip(range(min(courses.shape[1], _MOST_COURSES)), colours(_MOST_COURSES), strict=False):
            example = str(data["family"].values[int(np.flatnonzero(owner.reshape(-1) == k)[0])])
            said = f"{count[k]} charges, such as {example}" if courses.shape[1] > 1 else name.replace("_", " ")
            lines.append(pen.line(courses[:, k], name=said, colour=colour, dash=DASHES[k % len(DASHES)]))
        choices[name.replace("_", " ")] = Choice(spec(lines, ylabel=name.replace("_", " ")))
    text = "The hyperparameters that the optimiser used, read from its groups at every record."
    return Chart("settings", "Hyperparameters", text, "setting", choices)


def _parameters(raw: RawWeights, block: Block) -> Chart:
    keep = thinned(len(raw.step), _POINTS)
    pen = Pen(block, raw.step[keep])
    lines = [
        pen.line(raw.moved[keep, k], name=raw.names[k], colour=VERMILLION, width=0.8, showlegend=False)
        for k in spread(raw.moved[-1], _LINES)
    ]
    text = "How far a random subset of raw weights has moved: nothing of what charges show is to be seen in them."
    made = {"weights": Choice(spec(lines, ylabel="weight − weight at the start"))}
    return Chart("parameters", "Raw parameters", text, "parameters", made)
