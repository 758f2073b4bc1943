"""`sweep`, `figures`, `flow`: work described by a file or a list of names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from neuralmechanics.cli.meter import terminal_meter


@dataclass(frozen=True)
class Sweep:
    """Train every point of a grid, several at a time; what is already there is not trained again."""

    config: tyro.conf.Positional[str]
    """TOML file with [base] and [grid]"""
    out: str | None = None
    """folder of the sweep; default: what the file says, else runs/<name of the file>"""
    workers: int | None = None
    """trainings at a time; default: one a core"""
    backend: Literal["auto", "ray", "processes"] = "auto"
    """auto takes Ray if it is installed"""
    address: str | None = None
    """an existing Ray cluster; default: a local one, started for this sweep"""


@dataclass(frozen=True)
class Figures:
    """Make the paper's figures with their tables of errors, training what they need."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """fig1 … fig5, momentum, phase, schedules, orders; none: all"""
    scale: Literal["smoke", "small", "paper"] = "smoke"
    """size of the trainings behind them"""
    out: str = "figures"
    """folder of the figures"""


@dataclass(frozen=True)
class Flow:
    """Compare an optimiser with its continuous models on a problem described by a file."""

    config: tyro.conf.Positional[str]
    """TOML file with the problem, the flows and the times"""
    out: str = "runs/flow"
    """folder of the results"""


def run_sweep_command(command: Sweep) -> None:
    """Train the grid and print the gathered table."""
    from neuralmechanics.experiments.sweep import load_sweep, run_sweep

    sweep = load_sweep(command.config, out=command.out)
    table = run_sweep(
        sweep, workers=command.workers, backend=command.backend, address=command.address, meter=terminal_meter()
    )
    print(table.to_string(index=False))
    print(f"table  {sweep.out / 'table.csv'}")


def run_figures(command: Figures) -> None:
    """Draw the figures and print their files."""
    from neuralmechanics.cli.figures import draw

    for path in draw(command.names, command.scale, Path(command.out), terminal_meter()):
        print(path)


def run_flow(command: Flow) -> None:
    """Integrate and print the comparison."""
    from neuralmechanics.experiments.targets import resolve_model
    from neuralmechanics.flows import run_config

    report = run_config(command.config, resolve_model, meter=terminal_meter())
    print(report.describe())
    for path in report.save(command.out):
        print(path)
