"""Several runs on one page: what is drawn of each, told apart by colour and dash."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuralmechanics.report.page import comparison
from neuralmechanics.report.page.charts.families import Place
from neuralmechanics.report.page.comparison import looks

STEPS = np.array([0, 10, 20])


class Drawing:
    """A pen that keeps what it draws as it is."""

    def __init__(self, block: Any, x: Any) -> None:
        self.x = x

    def line(self, y: Any, **look: Any) -> dict[str, Any]:
        return {"x": self.x, "y": np.asarray(y), **look}


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "Pen", Drawing)
    monkeypatch.setattr(comparison, "spec", lambda lines, **_: lines)


def run(scale: float) -> Any:
    """Four charges of a family, two of them scales with norms 1 and 3, and its budget by kind."""
    charge = scale * np.array([[1.0, 9.0, 0.0, 0.0]] * 3)
    data = xr.Dataset(
        {
            "charge": (("step", "charge"), charge),
            "learning_rate": (("step", "charge"), scale * np.array([[np.nan, 0.1, 0.3, 0.2], [np.nan] * 4, [0.2] * 4])),
        }
        | {name: (("step", "charge"), np.zeros((3, 4))) for name in ("weight_decay", "momentum", "dampening")},
        coords={
            "step": STEPS,
            "family": ("charge", ["f", "f", "g", "g"]),
            "kind": ("charge", ["scale"] * 2 + ["rescale"] * 2),
        },
    )
    change = scale * np.array([[[1.0, 100.0], [2.0, 100.0]], [[0.0, 0.0], [0.0, 0.0]]])  # part, step, kind
    budget = xr.Dataset(
        {"change": (("part", "step", "family"), change)},
        coords={
            "part": ["weight_decay", "outside"],
            "step": STEPS[1:],
            "family": ["f", "f"],
            "kind": ("family", ["scale", "linear"]),
        },
    )
    norm = scale * np.array([[2.0, 4.0], [3.0, 5.0]])
    paths = xr.Dataset(
        {"norm": (("step", "charge"), norm)}, coords={"step": [30, 40], "family": ("charge", ["f", "f"])}
    )
    told = SimpleNamespace(scales=[1], paths=paths)
    return SimpleNamespace(data=data, budget=lambda by: budget, forecast=lambda: told)


def test_runs_are_told_apart_by_colour_and_by_dash() -> None:
    drawn = looks({str(k): run(1.0) for k in range(5)})
    assert [one.name for one in drawn] == list("01234")
    assert len({one.colour for one in drawn}) == len({one.dash for one in drawn}) == 5


def test_a_budget_is_summed_over_the_family_of_one_kind() -> None:
    """From the start on; a cause that did nothing is not drawn."""
    drawn = looks({"one": run(1.0), "two": run(2.0)})
    lines: Any = comparison._budgets(drawn, 100, None)(Place("f", "scale", "layer"))  # type: ignore[arg-type]
    assert [(line["name"], line["dash"]) for line in lines] == [
        ("weight decay, one", drawn[0].dash),
        ("weight decay, two", drawn[1].dash),
    ]
    assert [line["y"].tolist() for line in lines] == [[1.0, 3.0], [2.0, 6.0]]
    assert lines[0]["x"].tolist() == [10.0, 20.0]


def test_forecasts_go_on_from_norms() -> None:
    """The median of the roots of what was measured, then that of what is told."""
    drawn = looks({"one": run(1.0)})
    draw = comparison._forecasts(drawn, 100, None)  # type: ignore[arg-type]
    lines: Any = draw(Place("f", "scale", "layer"))
    assert [line["y"].tolist() for line in lines] == [[2.0] * 3, [3.0, 4.0]]
    assert [line["x"].tolist() for line in lines] == [[0.0, 10.0, 20.0], [30.0, 40.0]]
    assert draw(Place("g", "rescale", "layer")) is None


def test_settings_are_the_largest_over_all_charges() -> None:
    """A record at which no charge has one is a gap."""
    chart = comparison._settings(looks({"one": run(1.0)}), None)  # type: ignore[arg-type]
    (line,) = chart.choices["learning rate"].spec
    assert line["y"].tolist() == pytest.approx([0.3, np.nan, 0.2], nan_ok=True)
