"""From a template and charts to one file that works offline: plotly inlined, everything escaped, one data block."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralmechanics.monitor.explaining.changes import ChangePoint
from neuralmechanics.report.page.charts.chart import Block, Chart, literal
from neuralmechanics.report.page.charts.families import Place
from neuralmechanics.report.scores import claims_to_hold

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_MOST_MARKS = 80


def page_data(
    charts: Sequence[Chart],
    block: Block,
    places: Sequence[Place],
    first: int,
    laws: Sequence[str],
    changes: Sequence[ChangePoint],
) -> dict[str, Any]:
    """What the page's script reads: arrays once, charts that name them, families, laws and change points."""
    marks = [{"step": c.step, "grave": c.kind == "warning", "text": literal(c.text)} for c in changes[:_MOST_MARKS]]
    return {
        "arrays": block.arrays,
        "charts": {chart.name: chart.plain() for chart in charts},
        "families": [{"name": p.family, "kind": p.kind, "layer": p.layer} for p in places],
        "first": first,
        "claims": [law for law in laws if claims_to_hold(law)],
        "marks": marks,
    }


def render(template: str, data: Mapping[str, Any], path: str | Path, **shown: Any) -> Path:
    """Fills a template of the page and writes it; returns the path."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = _environment()
    plotly, script = _script(get_plotlyjs()), _script(_text(environment, "page.js"))
    page = environment.get_template(template).render(
        policy=_policy(plotly, script),
        style=Markup(_text(environment, "page.css")),
        data=_json(data),
        plotly=plotly,
        script=script,
        **shown,
    )
    return _publish(page, Path(path))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("neuralmechanics.report.page")
    # A name that a template misspells is an error, where jinja's own habit is to leave an empty place.
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=loader)


def _text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _script(source: str) -> Markup:
    from markupsafe import Markup

    # A browser ends the element at these letters, even inside a string of the script.
    if "</script" in source.lower():
        source = source.replace("</script", "<\\/script")
    return Markup(source)  # plotly's or the package's own code, never a run's text


def _policy(*scripts: str) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    # Styles may stand inline, since plotly writes them; scripts only if their text has this sum.
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json(data: Mapping[str, Any]) -> Markup:
    from markupsafe import Markup

    # NaN is no JSON, and one of them would lose the whole page; numbers that may be nan travel as bytes.
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # Inside a script element only "<" can end or open anything; JSON may write it by its number.
    return Markup(text.replace("<", "\\u003c"))


def _publish(page: str, path: Path) -> Path:
    """Writes beside the target and renames: a reader never sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path
