"""The charts of a run's page: training, raw parameters beside charges, charges beside laws, errors over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.monitor.reading.errors import nonfinite_step
from neuralmechanics.report.page.chart import Chart, Spec, line, literal, spec
from neuralmechanics.report.palette import (
    AXIS_LABELS,
    BLUE,
    MEASURED,
    VERMILLION,
    in_reading_order,
    law_styles,
    padded,
)
from neuralmechanics.report.scores import largest_error, relative_errors
from neuralmechanics.report.source import (
    RawWeights,
    RunLike,
    default_family,
    families,
    kinds,
    laws,
    of_family,
    raw_weights,
    scalars,
    spread,
    steps,
    telling_family,
    thinned,
)

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

MOST_POINTS = 300
MOST_FAMILIES = 60
CHARGES_SHOWN = 6
LINES_SHOWN = 40


def charts(run: RunLike) -> list[Chart]:
    """Every chart that the run has the data for."""
    data = run.data
    drawn = [_training(data)]
    if kinds(data):
        raw = raw_weights(run)
        if raw is not None:
            drawn.append(_parameters_and_charges(raw, data))
        if laws(data):
            drawn += [_charges_and_laws(data), _errors(data)]
    return [chart for chart in drawn if chart.choices]


def shown_families(data: xr.Dataset) -> list[str]:
    """The families with a chart of their own: the telling one of each kind first, then model order."""
    first = [telling_family(data, kind) for kind in kinds(data)]
    return list(dict.fromkeys(first + families(data)))[:MOST_FAMILIES]


def _training(data: xr.Dataset) -> Chart:
    logged = scalars(data)
    names = sorted(logged, key=lambda name: (name != "loss", "loss" not in name))
    keep = thinned(data.sizes["step"], MOST_POINTS)
    choices = {name: spec([line(logged[name][keep], name=name, colour=BLUE)], ylabel=name) for name in names}
    text = "What was logged, and the hyperparameters that the optimiser used, at every record."
    return Chart("training", "Training", text, "quantity", choices, [steps(data)[keep]])


def _parameters_and_charges(raw: RawWeights, data: xr.Dataset) -> Chart:
    sampled, keep = thinned(len(raw.step), MOST_POINTS), thinned(data.sizes["step"], MOST_POINTS)
    left = [
        line(raw.moved[sampled, k], name=raw.names[k], colour=VERMILLION, width=0.8, showlegend=False)
        for k in spread(raw.moved[-1], LINES_SHOWN)
    ]
    choices = {}
    # What moves while its weights jump about says more than a sum that only decays: norms come first here.
    for family in dict.fromkeys([default_family(data), *shown_families(data)]):
        part = of_family(data, family)
        charge, labels = part["charge"].values[keep], part["label"].values
        right = [
            line(
                charge[:, k], name=labels[k], colour=BLUE, steps=1, width=0.8, xaxis="x2", yaxis="y2", showlegend=False
            )
            for k in spread(charge[-1], LINES_SHOWN)
        ]
        choices[family] = _side_by_side(right, AXIS_LABELS.get(str(part["kind"].values[0]), "charge"))
    text = "Left how far a random subset of raw weights has moved, right the charges of one family over the same steps."
    both = [raw.step[sampled], steps(data)[keep]]
    return Chart("parameters", "Parameters and charges", text, "family", choices, both, left)


def _side_by_side(traces: list[Spec], ylabel: str) -> Spec:
    both = spec(traces, ylabel="weight − weight at the start")
    layout = both["layout"]
    layout["xaxis"]["domain"] = [0, 0.46]
    layout["xaxis2"] = {**layout["xaxis"], "domain": [0.56, 1], "anchor": "y2"}
    layout["yaxis2"] = {**layout["yaxis"], "title": {"text": literal(ylabel)}, "anchor": "x2"}
    return both


def _charges_and_laws(data: xr.Dataset) -> Chart:
    text = (
        f"Wide grey: measured; thin: each law's prediction from the start alone. Up to {CHARGES_SHOWN} charges of the "
        "family, spread over their sizes. Click a law in the legend to hide it, double-click to see it alone."
    )
    choices = {family: _family_spec(of_family(data, family)) for family in shown_families(data)}
    kept = steps(data)[thinned(data.sizes["step"], MOST_POINTS)]
    return Chart("laws", "Charges and laws", text, "family", choices, [kept])


def _family_spec(part: xr.Dataset) -> Spec:
    keep = thinned(part.sizes["step"], MOST_POINTS)
    labels = part["label"].values
    measured = part["charge"].values[keep]
    positions = spread(measured[0], CHARGES_SHOWN)
    traces = [
        line(measured[:, k], name="measured", colour=MEASURED, width=5, legendgroup="measured", text=labels[k])
        for k in positions
    ]
    drawn = in_reading_order(laws(part))
    for law in reversed(drawn):
        style = law_styles(drawn)[law]
        predicted = part["predicted"].sel(law=law).transpose("step", "charge").values[keep]
        if np.isnan(predicted).all():
            continue
        traces += [
            line(
                predicted[:, k],
                name=style.label,
                colour=style.colour,
                dash=style.plotly_dash,
                legendgroup=literal(law),
                text=labels[k],
            )
            for k in positions
        ]
    for position, trace in enumerate(traces):
        # Lines of a law are switched together: one entry of the legend is enough.
        trace["showlegend"] = position % len(positions) == 0
        trace["text"] = literal(trace["text"])
        trace["hovertemplate"] = "%{text}<br>step %{x}: %{y:.6g}"
    made = spec(traces, ylabel=AXIS_LABELS.get(str(part["kind"].values[0]), "charge"))
    # What was measured sets the axis: a law that runs away must not flatten it.
    made["layout"]["yaxis"]["range"] = list(padded([measured[:, positions]]))
    made["layout"]["legend"] = {"traceorder": "reversed"}
    return made


def _errors(data: xr.Dataset) -> Chart:
    errors = relative_errors(data)
    kind_of, family_of = data["kind"].values.astype(str), data["family"].values.astype(str)
    groups = {f"all {kind} charges": kind_of == kind for kind in kinds(data)}
    groups |= {family: family_of == family for family in shown_families(data)}
    choices = {name: _error_spec(errors, data, mine) for name, mine in groups.items()}
    text = "Largest error over the charges, relative to their size at the start; exact zeros are not drawn."
    if (lost := nonfinite_step(data)) is not None:
        text += (
            f" From step {lost} on charges were measured as nan or infinite: their errors are infinite, and not drawn."
        )
    kept = steps(data)[thinned(data.sizes["step"], MOST_POINTS)]
    return Chart("errors", "Error over time", text, "charges", choices, [kept])


def _error_spec(errors: xr.DataArray, data: xr.Dataset, mine: NDArray[np.bool_]) -> Spec:
    keep = thinned(data.sizes["step"], MOST_POINTS)
    drawn = in_reading_order(laws(data))
    styles = law_styles(drawn)
    traces = []
    for law in drawn:
        largest = largest_error(errors.sel(law=law).values[keep][:, mine])
        if np.isnan(largest).all():
            continue
        style = styles[law]
        traces.append(
            line(
                largest,
                name=style.label,
                colour=style.colour,
                dash=style.plotly_dash,
                hovertemplate="step %{x}: %{y:.2e}",
            )
        )
    return spec(traces, ylabel="error / size at the start", logarithmic=True)
