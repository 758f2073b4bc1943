"""`findings`, `budget`, `forecast`, `compare`: what recorded runs show, what moved their charges, where they go."""

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


@dataclass(frozen=True)
class Forecast:
    """Print where scale-free norms settle, when, how far they turn in a step, and what decay halves."""

    run: tyro.conf.Positional[str]
    """folder of the run"""
    to: int | None = None
    """the step that is told of; default: twice as far as the run came"""
    learned_until: int | None = None
    """use the records up to this step alone; the rest is then what the forecast can be compared with"""
    lr: float | None = None
    """what if the learning rate were this from the last record on"""
    weight_decay: float | None = None
    """what if weight decay were this"""
    momentum: float | None = None
    """what if momentum were this"""
    json: bool = False
    """print the rows as JSON"""


def run_forecast(command: Forecast) -> None:
    """Print the tables of the forecast."""
    from neuralmechanics.monitor import open_run

    run = open_run(command.run)
    changes = (command.lr, command.weight_decay, command.momentum)
    if all(change is None for change in changes):
        told = run.forecast(command.to, learned_until=command.learned_until)
    elif command.learned_until is not None:
        raise ValueError("--learned-until looks back, where the run was as it was: leave out --lr and its kin")
    else:
        told = run.what_if(lr=command.lr, weight_decay=command.weight_decay, momentum=command.momentum, to=command.to)
    if command.json:
        _print_json(told.to_dict())
        return
    print(told)
    print_warnings(run)


@dataclass(frozen=True)
class Compare:
    """Compare two runs: settings that differ, what moved each layer, findings of one alone."""

    first: tyro.conf.Positional[str]
    """folder of a run"""
    second: tyro.conf.Positional[str]
    """folder of another"""
    json: bool = False
    """print the comparison as JSON"""


def run_compare(command: Compare) -> None:
    """Print both side by side."""
    from neuralmechanics.monitor import open_run
    from neuralmechanics.monitor.explaining.comparison import compare_runs
    from neuralmechanics.report import text_table

    compared = compare_runs(open_run(command.first), open_run(command.second))
    if command.json:
        _print_json(compared.to_dict())
        return
    tables = [text_table(table) for table in (compared.settings, compared.layers) if len(table)]
    alone = ((command.first, compared.only_first), (command.second, compared.only_second))
    said = [f"only in {folder}: {finding}" for folder, found in alone for finding in found]
    print("\n\n".join([*tables, *said]))


@dataclass(frozen=True)
class Findings:
    """Say what the run shows that its owner should know, the gravest first, each with what to do."""

    run: tyro.conf.Positional[str]
    """folder of the run"""
    json: bool = False
    """print the findings as JSON"""


def run_findings(command: Findings) -> None:
    """Print the findings."""
    from neuralmechanics.monitor import open_run

    found = open_run(command.run).findings()
    if command.json:
        _print_json({"findings": [finding.to_dict() for finding in found]})
    elif not found:
        print("Nothing was found that its owner should know.")
    else:
        print("\n\n".join(f"{number}. {finding}" for number, finding in enumerate(found, 1)))


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
