"""What commands about a run pass on, and to which stream they say what."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from neuralmechanics import monitor
from neuralmechanics.cli import main
from neuralmechanics.cli.runs import print_warnings


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


def test_warnings_are_not_among_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that goes to a file stays a table, and a terminal obeys no layer's name."""
    print_warnings(Told())
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "warning: layer?[31m of a stranger\n"
