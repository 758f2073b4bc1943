"""The page of one run: findings, the map of its model, the family that is chosen, its layers, tables, origin."""

from __future__ import annotations

from pathlib import Path

from neuralmechanics.monitor.explaining.changes import change_points
from neuralmechanics.report.page.charts.chart import Block
from neuralmechanics.report.page.charts.families import MOST_FAMILIES, family_charts, places
from neuralmechanics.report.page.charts.training import training_charts
from neuralmechanics.report.page.explained import explained
from neuralmechanics.report.page.interest import most_interesting
from neuralmechanics.report.page.law_table import all_errors, law_table
from neuralmechanics.report.page.model_map import layers_of, model_map
from neuralmechanics.report.page.origin import facts, made, remarks, settings, title_of, to_cite
from neuralmechanics.report.page.render import page_data, render
from neuralmechanics.report.palette import in_reading_order
from neuralmechanics.report.source import RunLike, families, kinds, laws
from neuralmechanics.report.tables import heading, nonfinite_remark, symmetries_found

_OF_A_FAMILY = ("laws", "budget", "forecast", "residual", "errors")


def write_report(run: RunLike, path: str | Path, title: str | None = None) -> Path:
    """Writes the page of ``run`` to ``path`` (a file, made with its folders) and returns the path.

    The page is one file that works offline: zoom, hover and legend filter in every figure, filters by layer, kind and
    law, tables of symmetries and of errors, the configuration. Every name is escaped, and a content security policy
    lets no script run but its own.
    """
    data, block = run.data, Block()
    layer_of = layers_of(run.symmetries)
    shown = places(data, layer_of)
    why = explained(run, shown, block)
    charts = [*family_charts(data, shown, block), *why.charts, *training_charts(run, block)]
    by_name = {chart.name: chart for chart in charts}
    linked = [by_name[name] for name in _OF_A_FAMILY if name in by_name]
    about = [finding.layers for finding in why.findings or ()]
    first = most_interesting(data, shown, about) if shown else 0
    changes = change_points(data, run.warnings, getattr(run, "segments", ()))
    found, errors = symmetries_found(run.symmetries), all_errors(run)
    followed = in_reading_order(laws(data))
    return render(
        "run.html",
        page_data(charts, block, shown, first, followed, changes),
        path,
        title=title or title_of(run),
        facts=facts(run, found),
        warnings=[note.message for note in run.warnings],
        linked=linked,
        others=[chart for chart in charts if not chart.linked],
        why=why,
        places=shown,
        first=first,
        left_out=max(0, len(families(data)) - MOST_FAMILIES),
        layers=list(dict.fromkeys(layer_of.values())),
        kinds=kinds(data),
        laws=[(law, heading(law)) for law in followed],
        layer_map=model_map(run.symmetries, {place.family: place for place in shown}),
        positions={place.family: k for k, place in enumerate(shown)},
        changes=changes,
        table=law_table(errors, layer_of),
        nonfinite=nonfinite_remark(errors),
        symmetries=found,
        symmetry_layers=[layer_of[str(name)] for name in found["family"]],
        remarks=list(remarks(run.symmetries)),
        configuration=list(settings(run)),
        made=made(run),
        cited=to_cite(followed, forecast=why.forecast is not None, rescale="rescale" in kinds(data)),
    )
