"""The page of a real run begins with its findings; its budget and its forecast say what the run says."""

from __future__ import annotations

import numpy as np
import pytest

import neuralmechanics as nm
from neuralmechanics.monitor.explaining.findings.finding import Finding
from neuralmechanics.report import write_report
from neuralmechanics.report.page.explained import _cell, told
from neuralmechanics.report.tables import number

from .conftest import DROP, Written


@pytest.fixture(scope="module")
def page(explained_run: nm.Run, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(write_report(explained_run, tmp_path_factory.mktemp("explained") / "run.html").read_text())


def test_findings_come_first_and_say_what_the_run_says(explained_run: nm.Run, page: Written) -> None:
    assert page.sections[:3] == ["findings", "map", "family-charts"]
    text = " ".join(page.texts)
    for finding in explained_run.findings():
        assert finding.text in text
        assert finding.remedy in text
    assert explained_run.findings()[0].code == "decay-of-biases-alone"


def test_the_parts_that_are_drawn_add_up_to_what_was_measured(page: Written) -> None:
    assert len(page.choices("budget")) == len(page.data["families"])
    for choice in page.choices("budget"):
        measured, *parts = (page.numbers(trace["y"]) for trace in choice["traces"])
        assert parts
        size = sum(np.abs(part).max() for part in parts)
        assert np.abs(np.sum(parts, axis=0) - measured).max() < 1e-5 * size


def test_the_forecast_goes_on_where_the_measured_norms_end(page: Written) -> None:
    assert page.choices("forecast")
    for choice in page.choices("forecast"):
        measured, norm, low, high = (page.numbers(trace["y"]) for trace in choice["traces"][:4])
        assert norm[0] == pytest.approx(measured[-1], rel=0.05)
        assert (low <= norm).all()
        assert (norm <= high).all()


def test_bands_are_the_quantiles_of_the_charges(explained_run: nm.Run, page: Written) -> None:
    data = explained_run.data
    for choice in page.choices("laws"):
        charges = data["charge"].values[:, data["family"].values == choice["name"]]
        bands = [page.numbers(t["y"]) for t in choice["traces"] if t.get("only") == "band" and not t.get("law")]
        if charges.shape[1] > 4:
            expected = np.quantile(charges, (0.05, 0.95, 0.25, 0.75, 0.5), axis=1)
            assert np.allclose(bands, expected, rtol=1e-6, atol=1e-7)


def test_the_drop_of_the_rate_is_marked(explained_run: nm.Run, page: Written) -> None:
    [drop] = [change for change in explained_run.change_points() if change.kind == "learning rate"]
    assert DROP < drop.step <= DROP + 3
    assert drop.text == "learning rate 0.1 → 0.01"
    assert {"step": drop.step, "grave": False, "text": drop.text} in page.data["marks"]


def test_the_map_has_every_family_and_every_parameter_without_one(explained_run: nm.Run, page: Written) -> None:
    text = " ".join(page.texts)
    chips = {str(a["data-family"]) for tag, a in page.tags if tag == "button" and "data-family" in a}
    assert chips == {str(k) for k in range(len(page.data["families"]))}
    for known in explained_run.symmetries.coverage:
        assert known.families or known.parameter in text


def test_it_opens_on_a_family_that_the_gravest_finding_is_about(explained_run: nm.Run, page: Written) -> None:
    opened = page.data["families"][page.data["first"]]
    places = [{name.rpartition(".")[0] or name for name in f.place} | {*f.place} for f in explained_run.findings()]
    layers = {family["layer"] for family in page.data["families"]}
    assert opened["layer"] in next(place for place in places if place & layers)


def test_no_two_lines_of_a_figure_look_alike_without_their_colours(page: Written) -> None:
    for name in ("errors", "budget", "rotation", "effective-learning-rate"):
        for choice in page.choices(name):
            lines = [trace["trace"]["line"] for trace in choice["traces"]]
            assert len({(line["dash"], line["width"]) for line in lines}) == len(lines)


def test_what_is_cited_is_what_was_used(page: Written) -> None:
    text = " ".join(page.texts)
    assert "Neural Mechanics" in text
    assert "Rotational Equilibrium" in text


@pytest.mark.parametrize(("weight", "grave"), [(70.0, True), (69.9, False)])
def test_findings_from_seventy_on_are_grave(weight: float, grave: bool) -> None:
    finding = Finding("code", "text", {"share_of_motion": 0.1234, "type": "bfloat16"}, tuple("abcd"), "remedy", weight)
    (shown,) = told([finding])
    assert shown.grave is grave
    assert (shown.place, shown.evidence) == ("a, b, c and 1 more", "share of motion 0.123, type bfloat16")
    assert shown.layers == tuple("abcd")


def test_what_never_ends_is_infinite_in_the_table() -> None:
    assert [_cell(value) for value in (float("inf"), 0.5, "layer")] == ["∞", number(0.5), number("layer")]
