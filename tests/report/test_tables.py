"""Tables keep every number and show every name as it stands."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pandas as pd
import pytest
from rich.console import Console

from neuralmechanics.report.tables import errors_by_law, flat, number, rich_table, symmetries_found, text_table

from .conftest import LAWS, StandInRun


def test_errors_by_law_keep_every_error_and_the_order(run: StandInRun) -> None:
    errors = run.errors()
    wide = errors_by_law(errors)
    assert list(wide.columns) == ["family", "kind", "charges", *LAWS]
    assert list(wide["family"]) == list(errors["family"].drop_duplicates())
    for row in errors.itertuples():
        assert wide.set_index("family").loc[row.family, row.law] == row.max_error


def test_a_law_that_speaks_of_fewer_charges_stays_in_its_row(run: StandInRun) -> None:
    errors = run.errors()
    errors.loc[1, "charges"] = 3
    assert errors_by_law(errors).equals(errors_by_law(run.errors()))


def test_a_law_that_a_family_lacks_is_a_dash(run: StandInRun) -> None:
    errors = run.errors().iloc[1:]
    assert "–" in text_table(errors_by_law(errors))


def test_wrong_column_is_told(run: StandInRun) -> None:
    with pytest.raises(ValueError, match="no column 'mean'; it has: family, kind, law"):
        errors_by_law(run.errors(), "mean")


def test_text_table_is_aligned(run: StandInRun) -> None:
    lines = text_table(errors_by_law(run.errors())).splitlines()
    assert len(lines) == 2 + 3
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[-1] == "1.00e-01"


def test_symmetries_found_say_what_breaks_them(run: StandInRun) -> None:
    found = symmetries_found(run.symmetries)
    assert list(found["exact"]) == ["broken by eps=1e-05 of features.1", "yes", "yes"]


def test_rich_tables_show_markup_literally() -> None:
    out = io.StringIO()
    frame = pd.DataFrame({"family": ["[red]conv[/red]"], "charges": [3]})
    Console(file=out, width=80).print(rich_table(frame, "[b]title[/b]"))
    assert "[red]conv[/red]" in out.getvalue()
    assert "[b]title[/b]" in out.getvalue()


def test_numbers() -> None:
    values = [0.0, 1.5e-9, float("nan"), 7, "conv"]
    assert [number(value) for value in values] == ["0", "1.50e-09", "–", "7", "conv"]


def test_configurations_are_flattened() -> None:
    @dataclass(frozen=True)
    class Inner:
        momentum: float = 0.9

    @dataclass(frozen=True)
    class Outer:
        model: str
        optimizer: Inner
        milestones: tuple[int, ...] = (30, 60)

    expected = [("model", "mlp"), ("optimizer.momentum", "0.9"), ("milestones", "30, 60")]
    assert list(flat(Outer("mlp", Inner()))) == expected
    assert list(flat({"model": "mlp", "optimizer": {"momentum": 0.9}, "milestones": [30, 60]})) == expected
