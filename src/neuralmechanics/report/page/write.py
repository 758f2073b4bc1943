"""Writes a run's page: a Jinja template with autoescape, plotly inlined, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.report.page.charts import charts
from neuralmechanics.report.page.explained import explained
from neuralmechanics.report.source import RunLike, configuration, steps
from neuralmechanics.report.tables import errors_by_law, flat, heading, nonfinite_remark, number, symmetries_found

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from markupsafe import Markup

    from neuralmechanics.report.page.chart import Chart


@dataclass(frozen=True)
class Cell:
    """One error of the table: largest, root mean square, and how dark to draw it (0 to 4)."""

    largest: str
    typical: str
    decade: int


def write_report(run: RunLike, path: str | Path, title: str | None = None) -> Path:
    """Writes the page of ``run`` to ``path`` (a file, made with its folders) and returns the path.

    The page is one file that works offline: zoom, hover and legend filter in every figure, tables of symmetries and of
    errors, the configuration. Every name is escaped, and a content security policy lets no script run but its own.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    why = explained(run)
    drawn = [*why.charts, *charts(run)]
    environment = _environment()
    plotly = _script(get_plotlyjs())
    script = _script(_template_text(environment, "run.js"))
    found, errors = symmetries_found(run.symmetries), _all_errors(run)
    page = environment.get_template("run.html").render(
        title=title or _title(run),
        policy=_policy(plotly, script),
        style=Markup(_template_text(environment, "run.css")),
        facts=_facts(run, found),
        warnings=[note.message for note in run.warnings],
        charts=drawn,
        why=why,
        errors=_error_rows(errors),
        nonfinite=nonfinite_remark(errors),
        symmetries=found,
        remarks=list(_remarks(run.symmetries)),
        configuration=list(_settings(run)),
        data=_json(drawn),
        plotly=plotly,
        script=script,
    )
    return _publish(page, Path(path))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("neuralmechanics.report.page")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=loader)


def _template_text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _script(source: str) -> Markup:
    from markupsafe import Markup

    if "</script" in source.lower():
        source = source.replace("</script", "<\\/script")
    return Markup(source)  # plotly's or the package's own code, never a run's text


def _policy(*scripts: str) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    # Styles may stand inline, since plotly writes them; scripts only if their text has this sum.
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json(drawn: list[Chart]) -> Markup:
    from markupsafe import Markup

    data = {chart.name: chart.plain() for chart in drawn}
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # Inside a script element only "<" can end or open anything; JSON may write it by its number.
    return Markup(text.replace("<", "\\u003c"))


def _title(run: RunLike) -> str:
    trained = dict(flat(configuration(run)))
    named = [trained[key] for key in ("model", "data") if trained.get(key)]
    return " on ".join(named) or "neuralmechanics run"


def _facts(run: RunLike, found: pd.DataFrame) -> list[tuple[str, str]]:
    step = steps(run.data)
    facts = [("families of symmetries", f"{len(found)}"), ("charges", f"{run.data.sizes.get('charge', 0)}")]
    return [*facts, ("records", f"{len(step)}"), ("steps", f"{int(step[-1])}")]


def _all_errors(run: RunLike) -> pd.DataFrame:
    """The errors of every family, and below them those of all families of a kind together."""
    import pandas as pd

    kinds = run.errors(by="kind")
    kinds.insert(0, "family", "all")
    return pd.concat([run.errors(), kinds], ignore_index=True) if len(kinds) else run.errors()


def _error_rows(errors: pd.DataFrame) -> dict[str, Any] | None:
    if not len(errors):
        return None
    largest, typical = errors_by_law(errors), errors_by_law(errors, "rms_error")
    names = [str(column) for column in largest.columns[3:]]
    rows = [
        {
            "family": row[0],
            "kind": row[1],
            "charges": row[2],
            "cells": [_cell(a, b) for a, b in zip(row[3:], other[3:], strict=True)],
        }
        for row, other in zip(
            largest.itertuples(index=False, name=None), typical.itertuples(index=False, name=None), strict=True
        )
    ]
    return {"laws": [heading(name) for name in names], "rows": rows}


def _cell(largest: float, typical: float) -> Cell:
    # One shade for every two decades from 1e-6 on.
    decades = np.log10(np.clip(np.nan_to_num(largest, nan=0.0), 1e-30, 1e30))
    shade = int(np.clip(np.floor((decades + 8) / 2), 0, 4))
    return Cell(number(float(largest)), number(float(typical)), shade)


def _remarks(symmetries: Any) -> Iterator[str]:
    for operation in getattr(symmetries, "unknown", ()):
        yield f"No rule for {operation}: nothing is claimed there."
    yield from map(str, getattr(symmetries, "notes", ()))


def _settings(run: RunLike) -> Iterator[tuple[str, str]]:
    trained = configuration(run)
    yield from flat(trained)
    # Beside the training's own configuration the monitor's says what it saw of the optimiser.
    if trained is not run.config:
        yield from flat(run.config, "monitored")
    yield from flat(getattr(run, "origin", None) or {}, "origin")


def _publish(page: str, path: Path) -> Path:
    """Writes beside the target and renames: a reader never sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path
