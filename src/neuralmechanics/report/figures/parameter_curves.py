"""Raw parameters against charges over training: the first move wildly, the second smoothly (the paper's Fig. 1)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuralmechanics.report.figures.bands import BAND_WORDS, draw_bands
from neuralmechanics.report.palette import AXIS_LABELS, BLUE, FAINT, VERMILLION, shortened, tidy
from neuralmechanics.report.source import RunLike, default_family, families, of_family, raw_weights, steps


def parameters_and_charges(run: RunLike, family: str | None = None) -> Figure:
    """How far a random subset of raw weights has moved (left) and the charges of one family (right) over the steps.

    ``family`` defaults to the most telling one of the kinds scale, rescale, translation, in this order.
    Raises ``ValueError`` where the run recorded no raw weights. Source: Kunin et al., ICLR 2021, Fig. 1.
    """
    data = run.data
    raw = raw_weights(run)
    if raw is None:
        raise ValueError("the run recorded no raw weights: train with the metric 'weights-subset' to draw them")
    family = family or default_family(data)
    if family not in families(data):
        raise ValueError(f"the run has no charges of a family {family!r}; it has: {', '.join(families(data))}")
    chosen = of_family(data, family)
    charges = chosen["charge"].values.astype(np.float64)
    kind = str(chosen["kind"].values[0])

    figure = Figure(figsize=(8.4, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    draw_bands(left, raw.step, raw.moved, VERMILLION)
    tidy(left, title=f"{len(raw.names)} raw parameters", xlabel="step", ylabel="weight − weight at the start")
    draw_bands(right, steps(data), charges, BLUE)
    title = f"{charges.shape[1]} charges of {shortened(family, 36)}"
    tidy(right, title=title, xlabel="step", ylabel=AXIS_LABELS.get(kind, kind))
    left.set_xlim(0, max(raw.step[-1], steps(data)[-1]))
    figure.supxlabel(f"some of all lines; shaded: {BAND_WORDS}", fontsize=7.5, color=FAINT)
    return figure
