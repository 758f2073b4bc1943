"""The page of several runs: settings that differ, what was found in each, their charges over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neuralmechanics.monitor.explaining.comparison import differing_settings
from neuralmechanics.monitor.reading.run import Run
from neuralmechanics.report.page.charts.chart import Block
from neuralmechanics.report.page.charts.families import places
from neuralmechanics.report.page.comparison import Drawn, comparison_charts, looks
from neuralmechanics.report.page.explained import keeps_budget, told
from neuralmechanics.report.page.interest import most_interesting
from neuralmechanics.report.page.law_table import all_errors, law_table
from neuralmechanics.report.page.model_map import layers_of
from neuralmechanics.report.page.origin import title_of
from neuralmechanics.report.page.render import page_data, render
from neuralmechanics.report.palette import in_reading_order
from neuralmechanics.report.source import kinds, laws
from neuralmechanics.report.tables import heading


def write_comparison(runs: Sequence[Run] | Mapping[str, Run], path: str | Path, title: str | None = None) -> Path:
    """Writes the page that lays several runs over one another to ``path`` and returns it.

    ``runs`` may be named; else each is called by its folder. ValueError for fewer than two, and for runs without a
    family in common.
    """
    drawn = looks(runs if isinstance(runs, Mapping) else _named(runs))
    if len(drawn) < 2:
        raise ValueError(f"a comparison takes at least two runs, got {len(drawn)}")
    first = drawn[0].run
    layer_of = layers_of(first.symmetries)
    shown = [p for p in places(first.data, layer_of) if all(_has(d, p.family) for d in drawn)]
    if not shown:
        raise ValueError(
            f"{' and '.join(d.name for d in drawn)} have no family in common: they are of different models"
        )
    block = Block()
    charts = comparison_charts(drawn, shown, block)
    changes = [replace(change, text=f"{d.name}: {change.text}") for d in drawn for change in d.run.change_points()]
    followed = in_reading_order(list(dict.fromkeys(law for d in drawn for law in laws(d.run.data))))
    settings = differing_settings([d.run for d in drawn])
    return render(
        "comparison.html",
        page_data(charts, block, shown, most_interesting(first.data, shown, ()), followed, changes),
        path,
        title=title or f"{title_of(first)}: {' against '.join(d.name for d in drawn)}",
        names=[d.name for d in drawn],
        settings=[tuple(map(str, row)) for row in settings.itertuples(index=False, name=None)],
        findings=[(d.name, told(d.run.findings()) if keeps_budget(d.run) else None) for d in drawn],
        linked=[chart for chart in charts if chart.linked],
        others=[chart for chart in charts if not chart.linked],
        places=shown,
        first=most_interesting(first.data, shown, ()),
        changes=changes,
        layers=list(dict.fromkeys(place.layer for place in shown)),
        kinds=[kind for kind in kinds(first.data) if kind in {place.kind for place in shown}],
        laws=[(law, heading(law)) for law in followed],
        tables=[(d.name, law_table(all_errors(d.run), layer_of)) for d in drawn],
    )


def _named(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by the last part of their paths, or by all of it where that is not enough."""
    short = [Path(run.path).name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run.path) for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return dict(zip(names, runs, strict=True))


def _has(drawn: Drawn, family: str) -> bool:
    return family in drawn.run.symmetries.family_names
