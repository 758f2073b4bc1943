"""The charts of the family that a reader has chosen: charges and laws, residual, errors, budget, forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.monitor.reading.errors import nonfinite_step
from neuralmechanics.report.page.charts.chart import Block, Chart, Choice, Pen, Spec, literal, spec
from neuralmechanics.report.palette import AXIS_LABELS, BLACK, MEASURED, in_reading_order, law_styles, padded
from neuralmechanics.report.scores import largest_error, relative_errors
from neuralmechanics.report.source import families, laws, of_family, spread, thinned

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

MOST_FAMILIES = 300
LINES = 8
FEW = 4
"""families of no more charges are drawn charge by charge"""
_LARGEST = 8e6
_ARRAYS_OF_A_FAMILY = 60


@dataclass(frozen=True)
class Place:
    """A family with charges: its name, kind and layer."""

    family: str
    kind: str
    layer: str


def places(data: xr.Dataset, layer_of: dict[str, str]) -> list[Place]:
    """The families with charts, in model order."""
    kind_of = dict(zip(data["family"].values.astype(str), data["kind"].values.astype(str), strict=True))
    return [Place(name, kind_of[name], layer_of.get(name, "")) for name in families(data)[:MOST_FAMILIES]]


def points(count: int) -> int:
    """How many points a line may have, so that a page of so many families stays small: 4 bytes each, 4/3 as text."""
    return int(np.clip(_LARGEST / (16 / 3 * _ARRAYS_OF_A_FAMILY * max(count, 1)), 60, 300))


def family_charts(data: xr.Dataset, shown: Sequence[Place], block: Block) -> list[Chart]:
    """Charges with the laws' predictions, the residual, and the errors of the laws, of every family."""
    if not shown:
        return []
    keep = thinned(data.sizes["step"], points(len(shown)))
    pen = Pen(block, data["step"].values[keep].astype(np.float64))
    errors = relative_errors(data) if laws(data) else None
    of = {place.family: np.flatnonzero(data["family"].values.astype(str) == place.family) for place in shown}

    def each(draw: Callable[[Place, xr.Dataset], Spec | None]) -> dict[str, Choice]:
        drawn = {place.family: draw(place, of_family(data, place.family)) for place in shown}
        return {p.family: Choice(s, p.layer, p.kind) for p in shown if (s := drawn[p.family]) is not None}

    charts = [
        Chart("laws", "Charges and laws", _TEXT, "family", each(lambda p, d: _charges(p, d, keep, pen)), linked=True),
        Chart("residual", "Residual", _RESIDUAL, "family", each(lambda p, d: _residual(d, keep, pen)), linked=True),
    ]
    if errors is not None:
        told = each(lambda p, d: _errors(errors.values[:, keep][:, :, of[p.family]], laws(data), data, pen))
        charts.append(Chart("errors", "Errors of the laws", _errors_text(data), "family", told, linked=True))
    return charts


_TEXT = (
    "Wide grey: measured, as its median with the middle half and nine tenths of the charges; thin: the median of each "
    "law's prediction from the start alone. Click a law in the legend to hide it, double-click to see it alone."
)
_RESIDUAL = (
    "|⟨g, ξ⟩|, the gradient along the symmetry: rounding where the symmetry holds in this loop. Its largest value over "
    "the charges of the family, and the median."
)


def _errors_text(data: xr.Dataset) -> str:
    text = "Largest error over the charges, relative to their size at the start; exact zeros are not drawn."
    if (lost := nonfinite_step(data)) is not None:
        text += (
            f" From step {lost} on charges were measured as nan or infinite: their errors are infinite, and not drawn."
        )
    return text


def _charges(place: Place, part: xr.Dataset, keep: NDArray[np.intp], pen: Pen) -> Spec:
    measured, labels = part["charge"].values[keep], part["label"].values
    few = part.sizes["charge"] <= FEW
    traces = [] if few else pen.bands(measured, name="measured", colour=MEASURED, only="band")
    for first, k in enumerate(chosen := spread(np.nan_to_num(measured[0]), LINES)):
        single: Spec = {"legendgroup": "single", "showlegend": first == 0, "text": literal(labels[k])}
        single |= {} if few else {"only": "single"}
        traces.append(
            pen.line(measured[:, k], name="measured", colour=MEASURED, width=5, hovertemplate=_HOVER, **single)
        )
    names = in_reading_order(laws(part))
    for law, style in law_styles(names).items():
        predicted = part["predicted"].sel(law=law).transpose("step", "charge").values[keep]
        # At the start every law knows the charge.
        if np.isnan(predicted[1:]).all():
            continue
        drawn: Spec = {"name": style.label, "colour": style.colour, "dash": style.plotly_dash, "law": law}
        if few or law == names[0]:
            for first, k in enumerate(chosen):
                single = {"legendgroup": literal(law), "showlegend": first == 0, "text": literal(labels[k])}
                single |= {} if few else {"only": "single"}
                traces.append(pen.line(predicted[:, k], hovertemplate=_HOVER, **drawn, **single))
        if not few:
            traces.append(pen.line(_median(predicted), only="band", **drawn))
    made = spec(traces, ylabel=AXIS_LABELS.get(place.kind, "charge"))
    # What was measured sets the axis: a law that runs away must not flatten it.
    made["layout"]["yaxis"]["range"] = list(padded([measured[:, chosen]]))
    return made


_HOVER = "%{text}<br>step %{x}: %{y:.6g}"


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values).all(axis=1)
    out = np.full(len(values), np.nan)
    out[known] = np.nanmedian(values[known], axis=1)
    return out


def _residual(part: xr.Dataset, keep: NDArray[np.intp], pen: Pen) -> Spec | None:
    size = np.abs(part["residual"].values[keep])
    if np.isnan(size).all():
        return None
    largest = np.where(np.isnan(size).all(axis=1), np.nan, np.nanmax(np.nan_to_num(size, nan=-1.0), axis=1))
    drawn = [(largest, "largest", BLACK, "solid"), (_median(size), "median", MEASURED, "dash")]
    # A logarithmic axis has no place for an exact zero.
    lines = [
        pen.line(np.where(y > 0, y, np.nan), name=name, colour=colour, dash=dash) for y, name, colour, dash in drawn
    ]
    return spec(lines, ylabel="|⟨g, ξ⟩|", logarithmic=True)


def _errors(errors: NDArray[np.float64], names: Sequence[str], data: xr.Dataset, pen: Pen) -> Spec | None:
    position = {str(law): k for k, law in enumerate(data["law"].values)}
    traces = []
    for law, style in law_styles(in_reading_order(names)).items():
        largest = largest_error(errors[position[law]])
        if np.isnan(largest).all():
            continue
        drawn: Spec = {"name": style.label, "colour": style.colour, "dash": style.plotly_dash, "law": law}
        traces.append(pen.line(largest, hovertemplate="step %{x}: %{y:.2e}", **drawn))
    return spec(traces, ylabel="error / size at the start", logarithmic=True) if traces else None
