"""`flow`: an optimiser against its continuous models."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from neuralmechanics.cli.terminal.meter import terminal_meter


@dataclass(frozen=True)
class Flow:
    """Compare an optimiser with its continuous models on a problem described by a file."""

    config: tyro.conf.Positional[str]
    """TOML file with the problem, the flows and the times"""
    out: str = "runs/flow"
    """folder of the results"""


def run_flow(command: Flow) -> None:
    """Integrate and print the comparison."""
    from neuralmechanics.experiments.targets import resolve_model
    from neuralmechanics.flows import run_config

    report = run_config(command.config, resolve_model, meter=terminal_meter())
    print(report.describe())
    for path in report.save(command.out):
        print(path)
