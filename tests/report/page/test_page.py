"""The page: one offline file, everything escaped, every table and figure of the run in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from neuralmechanics.report import write_report

from ..conftest import StandInFamily, StandInRun, make_run
from .conftest import Written

HOSTILE = (
    '</script><script>document.body.setAttribute("data-owned","script")</script>',
    '<img src=x onerror=\'document.body.setAttribute("data-owned","image")\'>',
    '"><svg onload=document.body.setAttribute("data-owned","svg")>',
    "{{ 7 * 7 }} <b>bold</b> <a href='javascript:alert(1)'>link</a> & ' \" \\u003c -->",
)


@pytest.fixture(scope="module")
def hostile() -> StandInRun:
    """A run in which every text that a user can name is an attack."""
    families = tuple(StandInFamily("scale", name, 3, 3, False, (name,)) for name in HOSTILE)
    run = make_run(families)
    data = run.data.assign_coords(label=("charge", list(np.repeat(HOSTILE, 3)))).rename(loss=HOSTILE[0])
    return StandInRun(data, families, {HOSTILE[0]: HOSTILE[1], "model": HOSTILE[2], "data": HOSTILE[3]})


@pytest.fixture(scope="module")
def page(run: StandInRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run, tmp_path_factory.mktemp("page") / "made" / "run.html")


@pytest.fixture(scope="module")
def hostile_page(hostile: StandInRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(hostile, tmp_path_factory.mktemp("hostile") / "run.html")


def test_the_page_is_one_offline_file(page: Path) -> None:
    assert [path.name for path in page.parent.iterdir()] == ["run.html"]
    outline = Written(page.read_text())
    for tag, attributes in outline.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert not {"src", "srcset", "action"} & attributes.keys(), attributes
        assert attributes.get("href", "#").startswith("#")
    assert page.stat().st_size < 8e6


def test_the_policy_allows_the_pages_own_scripts_only(page: Path) -> None:
    outline = Written(page.read_text())
    policy = next(a["content"] for tag, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    data, *scripts = outline.scripts
    assert policy is not None
    assert "default-src 'none'" in policy
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    assert allowed == [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts]
    charts = {"training", "settings", "parameters", "laws", "residual", "errors"}
    assert set(json.loads(data)["charts"]) == charts
    # Of plotly's text the browser makes nothing before a figure is drawn.
    kinds = [attributes.get("type") for tag, attributes in outline.tags if tag == "script"]
    assert kinds == ["application/json", "text/plain", None]


def test_tables_hold_every_family_law_and_setting(page: Path, run: StandInRun) -> None:
    text = " ".join(Written(page.read_text()).texts)
    for family in run.symmetries:
        assert family.name in text
    for word in ("modified flow", "gradient flow", "optimizer.momentum", "0.9", "broken by eps=1e-05", "3.00e-06"):
        assert word in text


def test_hostile_names_stay_text(hostile_page: Path) -> None:
    source = hostile_page.read_text()
    outline = Written(source)
    assert len(outline.scripts) == 3
    assert not {tag for tag, _ in outline.tags} & {"img", "svg"}
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    text = "".join(outline.texts)
    for name in HOSTILE:
        assert name in text
    # Plotly reads some HTML in its labels, so there they are escaped once more.
    plotted = outline.data["charts"]
    assert "<img" not in json.dumps([choice["traces"] for chart in plotted.values() for choice in chart["choices"]])
    shown = {unescape(trace["trace"]["text"]) for choice in plotted["laws"]["choices"] for trace in choice["traces"]}
    assert shown == set(HOSTILE)


def test_values_that_are_not_numbers_do_not_break_the_page(tmp_path: Path) -> None:
    run = make_run()
    run.data["predicted"].values[0, 5:] = np.nan
    run.data["predicted"].values[1, 5:] = np.inf
    path = write_report(run, tmp_path / "run.html")
    assert "laws" in Written(path.read_text()).data["charts"]


def test_a_run_without_charges_has_a_page(tmp_path: Path) -> None:
    run = make_run()
    bare = StandInRun(run.data.isel(charge=slice(0)), ())
    bare_page = write_report(bare, tmp_path / "run.html", title="nothing found")
    assert "No law was followed in this run." in bare_page.read_text()
