"""`budget`: what moved the charges of a recorded run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from neuralmechanics.cli.runs import print_warnings


@dataclass(frozen=True)
class Budget:
    """Print what moved each charge over the run, by cause: the parts add up to the measured change."""

    run: tyro.conf.Positional[str]
    """folder of the run"""
    by: Literal["layer", "family", "charge"] = "layer"
    """sums over the charges of a layer or family, or every charge by itself"""
    json: bool = False
    """print the rows as JSON"""


def run_budget(command: Budget) -> None:
    """Print the table of parts."""
    from neuralmechanics.monitor import open_run
    from neuralmechanics.monitor.explaining.budget import rows_of, totals

    run = open_run(command.run)
    table = totals(run.budget(command.by))
    if command.json:
        _print_json({"by": command.by, "rows": rows_of(table)})
        return
    from neuralmechanics.report import text_table

    print(text_table(table.loc[:, (table != 0).any()]))
    print_warnings(run)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))
