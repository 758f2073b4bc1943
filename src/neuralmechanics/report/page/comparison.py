"""The charts in which several runs are drawn over one another: a colour and a dash a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuralmechanics.monitor.reading.run import Run
from neuralmechanics.report.page.charts.chart import Block, Chart, Choice, Pen, Spec, quantiles, spec
from neuralmechanics.report.page.charts.families import Place, points
from neuralmechanics.report.page.charts.layers import TITLES, by_layer
from neuralmechanics.report.page.charts.training import SETTINGS, logged
from neuralmechanics.report.page.explained import keeps_budget
from neuralmechanics.report.palette import AXIS_LABELS, DASHES, OKABE_ITO, in_reading_order, law_styles
from neuralmechanics.report.scores import largest_error, relative_errors
from neuralmechanics.report.source import laws, of_family, scalars, steps, thinned


@dataclass(frozen=True, eq=False)
class Drawn:
    """A run with its name on the page and the look of its lines."""

    name: str
    run: Run
    colour: str
    dash: str


def looks(runs: Mapping[str, Run]) -> list[Drawn]:
    """Each run with a colour and a dash of its own."""
    return [
        Drawn(name, run, OKABE_ITO[k % len(OKABE_ITO)], DASHES[k % len(DASHES)])
        for k, (name, run) in enumerate(runs.items())
    ]


def comparison_charts(runs: Sequence[Drawn], shown: Sequence[Place], block: Block) -> list[Chart]:
    """Charges, errors, budget and forecast of every family; what was logged; settings; rotation by layer."""
    most = points(len(shown) * len(runs))
    told = [drawn for drawn in runs if keeps_budget(drawn.run)]
    of_family_charts = [
        _linked("laws", "Charges", _CHARGES, shown, lambda p: _charges(runs, p, most, block)),
        _linked("budget", "Budget", _BUDGET, shown, _budgets(told, most, block)),
        _linked("forecast", "Forecast", _FORECAST, shown, _forecasts(told, most, block)),
        _linked("errors", "Errors of the laws", _ERRORS, shown, _errors(runs, most, block)),
    ]
    charts = [*of_family_charts, *_by_layer(told, block), _logged(runs, block), _settings(runs, block)]
    return [chart for chart in charts if chart.choices]


_CHARGES = "The median over the charges of the family in each run, and thinner its quartiles."
_BUDGET = "What moved the charges of the family, by cause: a colour a cause, a dash a run."
_FORECAST = "The median norm of the family's groups as measured, and, thinner, where the laws take it."
_ERRORS = "Largest error over the charges, relative to their size at the start: a colour a law, a dash a run."


def _linked(name: str, title: str, text: str, shown: Sequence[Place], draw: Callable[[Place], Spec | None]) -> Chart:
    choices = {p.family: Choice(made, p.layer, p.kind) for p in shown if (made := draw(p)) is not None}
    return Chart(name, title, text, "family", choices, linked=True)


def _charges(runs: Sequence[Drawn], place: Place, most: int, block: Block) -> Spec:
    lines = []
    for drawn in runs:
        part = of_family(drawn.run.data, place.family)
        keep = thinned(part.sizes["step"], most)
        pen = Pen(block, steps(part)[keep])
        _, low, median, high, _ = quantiles(part["charge"].values[keep])
        look = {"colour": drawn.colour, "dash": drawn.dash, "legendgroup": drawn.name}
        lines.append(pen.line(median, name=drawn.name, width=2.5, **look))
        lines += [pen.line(edge, name=drawn.name, width=0.7, showlegend=False, **look) for edge in (low, high)]
    return spec(lines, ylabel=AXIS_LABELS.get(place.kind, "charge"))


def _budgets(runs: Sequence[Drawn], most: int, block: Block) -> Callable[[Place], Spec | None]:
    books = [drawn.run.budget("family") for drawn in runs]

    def draw(place: Place) -> Spec | None:
        lines = []
        for drawn, book in zip(runs, books, strict=True):
            mine = (book["family"].values == place.family) & (book["kind"].values == place.kind)
            keep = thinned(book.sizes["step"], most)
            pen = Pen(block, book["step"].values[keep].astype(np.float64))
            for k, part in enumerate(book["part"].values):
                # Summed before it is thinned: what lies between the records that are drawn counts as well.
                total = np.cumsum(book["change"].sel(part=part).values[:, mine].sum(1))[keep]
                if np.any(total != 0) and np.isfinite(total).any():
                    said = f"{str(part).replace('_', ' ')}, {drawn.name}"
                    lines.append(pen.line(total, name=said, colour=OKABE_ITO[k % len(OKABE_ITO)], dash=drawn.dash))
        return spec(lines, ylabel="change, summed over the family") if lines else None

    return draw


def _forecasts(runs: Sequence[Drawn], most: int, block: Block) -> Callable[[Place], Spec | None]:
    known = [(drawn, forecast.paths) for drawn in runs if len((forecast := drawn.run.forecast()).scales)]

    def draw(place: Place) -> Spec | None:
        lines = []
        for drawn, paths in known if place.kind == "scale" else ():
            part = of_family(drawn.run.data, place.family)
            keep, ahead = thinned(part.sizes["step"], most), thinned(paths.sizes["step"], most // 2)
            norms = np.median(np.sqrt(np.maximum(part["charge"].values[keep], 0.0)), axis=1)
            look = {"colour": drawn.colour, "dash": drawn.dash, "legendgroup": drawn.name}
            lines.append(Pen(block, steps(part)[keep]).line(norms, name=drawn.name, width=2.5, **look))
            mine = paths["norm"].values[np.ix_(ahead, paths["family"].values.astype(str) == place.family)]
            if mine.size:
                pen = Pen(block, paths["step"].values[ahead].astype(np.float64))
                lines.append(pen.line(np.median(mine, axis=1), name=f"{drawn.name}, forecast", width=1, **look))
        return spec(lines, ylabel="norm of the weights") if lines else None

    return draw


def _errors(runs: Sequence[Drawn], most: int, block: Block) -> Callable[[Place], Spec | None]:
    known = [(drawn, relative_errors(drawn.run.data)) for drawn in runs if laws(drawn.run.data)]

    def draw(place: Place) -> Spec | None:
        lines = []
        for drawn, errors in known:
            keep = thinned(errors.sizes["step"], most)
            mine = errors["family"].values.astype(str) == place.family
            for law, style in law_styles(in_reading_order(laws(drawn.run.data))).items():
                largest = largest_error(errors.sel(law=law).values[keep][:, mine])
                if np.isfinite(largest).any():
                    pen = Pen(block, errors["step"].values[keep].astype(np.float64))
                    said = f"{style.label}, {drawn.name}"
                    lines.append(pen.line(largest, name=said, colour=style.colour, dash=drawn.dash, law=law))
        return spec(lines, ylabel="error / size at the start", logarithmic=True) if lines else None

    return draw


def _by_layer(runs: Sequence[Drawn], block: Block) -> Iterator[Chart]:
    found = [(drawn, drawn.run.turning()) for drawn in runs]
    for name, (title, ylabel, text) in TITLES.items():
        lines: dict[str, list[Spec]] = {}
        for one, turned in found:
            keep = thinned(turned.sizes["step"], 200)
            pen = Pen(block, turned["step"].values[keep].astype(np.float64))
            for layer, y in by_layer(turned, name, keep).items():
                line = pen.line(y, name=one.name, colour=one.colour, dash=one.dash)
                lines.setdefault(layer, []).append(line)
        choices = {layer: Choice(spec(drawn, ylabel=ylabel, logarithmic=True), layer) for layer, drawn in lines.items()}
        yield Chart(name.replace("_", "-"), title, text, "layer", choices)


def _over(
    runs: Sequence[Drawn], names: Sequence[str], read: Callable[[Run, str], np.ndarray | None], block: Block
) -> dict[str, Choice]:
    choices = {}
    for name in names:
        lines = []
        for drawn in runs:
            values = read(drawn.run, name)
            if values is not None and np.isfinite(values).any():
                keep = thinned(len(values), 300)
                pen = Pen(block, steps(drawn.run.data)[keep])
                lines.append(pen.line(values[keep], name=drawn.name, colour=drawn.colour, dash=drawn.dash))
        if lines:
            choices[name.replace("_", " ")] = Choice(spec(lines, ylabel=name.replace("_", " ")))
    return choices


def _logged(runs: Sequence[Drawn], block: Block) -> Chart:
    names = list(dict.fromkeys(name for drawn in runs for name in logged(drawn.run.data)))
    choices = _over(runs, names, lambda run, name: scalars(run.data).get(name), block)
    return Chart("training", "Training", "What the loops logged, at every record.", "quantity", choices)


def _settings(runs: Sequence[Drawn], block: Block) -> Chart:
    def largest(run: Run, name: str) -> np.ndarray | None:
        values = run.data[name].values.astype(np.float64)
        if not values.size or not np.nan_to_num(values).any():
            return None
        return np.where(np.isnan(values).all(1), np.nan, np.nanmax(np.nan_to_num(values, nan=-np.inf), axis=1))

    text = "The hyperparameters that the optimisers used: the largest over all charges."
    return Chart("settings", "Hyperparameters", text, "setting", _over(runs, SETTINGS, largest, block))
