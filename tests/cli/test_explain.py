"""What commands about a run pass on, and to which stream they say what."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from neuralmechanics import monitor
from neuralmechanics.cli import main
from neuralmechanics.cli.explain import _print_json
from neuralmechanics.cli.runs import print_warnings
from neuralmechanics.monitor.explaining import budget, comparison


class Told:
    """A run that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.warnings = [SimpleNamespace(message="layer\x1b[31m of a stranger")]

    def __getattr__(self, name: str) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked.append((name, args, kwargs))
            return SimpleNamespace(to_dict=lambda: {"asked": name})

        return ask


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--momentum", "0.5"], ("what_if", (), {"lr": None, "weight_decay": None, "momentum": 0.5, "to": None})),
        (["--lr", "0.2", "--to", "70"], ("what_if", (), {"lr": 0.2, "weight_decay": None, "momentum": None, "to": 70})),
        (["--weight-decay", "0"], ("what_if", (), {"lr": None, "weight_decay": 0.0, "momentum": None, "to": None})),
        (["--to", "70", "--learned-until", "30"], ("forecast", (70,), {"learned_until": 30})),
    ],
)
def test_a_forecast_is_of_what_was_asked(
    flags: list[str], expected: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Told()
    monkeypatch.setattr(monitor, "open_run", lambda folder: run)
    assert main(["forecast", "a-run", *flags, "--json"]) == 0
    assert run.asked == [expected]
    assert json.loads(capsys.readouterr().out) == {"asked": expected[0]}  # type: ignore[index]


@pytest.mark.parametrize("by", ["layer", "family", "charge"])
def test_a_budget_is_by_what_was_asked(
    by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Told()
    monkeypatch.setattr(monitor, "open_run", lambda folder: run)
    monkeypatch.setattr(budget, "totals", lambda found: pd.DataFrame({"change": [1.5, float("nan")]}))
    assert main(["budget", "a-run", "--by", by, "--json"]) == 0
    assert run.asked == [("budget", (by,), {})]
    assert json.loads(capsys.readouterr().out) == {"by": by, "rows": [{"change": 1.5}, {"change": None}]}


def test_of_two_runs_each_is_said_to_have_its_own_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compared(first: str, second: str) -> SimpleNamespace:
        alone = {"only_first": (f"of {first}",), "only_second": (f"of {second}", "more")}
        return SimpleNamespace(settings=pd.DataFrame(), layers=pd.DataFrame({"layer": ["0"]}), **alone)

    monkeypatch.setattr(monitor, "open_run", lambda folder: folder)
    monkeypatch.setattr(comparison, "compare_runs", compared)
    assert main(["compare", "one", "two"]) == 0
    told = capsys.readouterr().out.split("\n\n")
    assert [part.strip() for part in told[1:]] == ["only in one: of one", "only in two: of two", "only in two: more"]


def test_json_holds_no_number_that_is_none() -> None:
    """Other readers know of no NaN: one that is left in plain data is an error here, not theirs."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        _print_json({"change": float("nan")})


@pytest.mark.parametrize(("flags", "shown"), [([], "3.00e-04"), (["--by", "rms_error"], "5.00e-05")])
def test_errors_are_by_what_was_asked(
    flags: list[str], shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the tables of families and of kinds."""
    row = {"family": "a", "kind": "scale", "law": "exact", "charges": 2, "max_error": 3e-4, "rms_error": 5e-5}
    table = pd.DataFrame([row | {"nonfinite_step": pd.NA}])

    def errors(by: str = "family") -> pd.DataFrame:
        return table if by == "family" else table.drop(columns="family")

    monkeypatch.setattr(monitor, "open_run", lambda folder: SimpleNamespace(errors=errors, warnings=[]))
    assert main(["errors", "a-run", *flags]) == 0
    told = capsys.readouterr().out
    assert told.count(shown) == 2


def test_warnings_are_not_among_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that goes to a file stays a table, and a terminal obeys no layer's name."""
    print_warnings(Told())
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "warning: layer?[31m of a stranger\n"
