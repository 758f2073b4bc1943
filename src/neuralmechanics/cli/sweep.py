"""`sweep`: a grid of trainings described by a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from neuralmechanics.cli.terminal.meter import terminal_meter


@dataclass(frozen=True)
class Sweep:
    """Train every point of a grid, several at a time; what is already there is not trained again."""

    config: tyro.conf.Positional[str]
    """TOML file with [base] and [grid]"""
    out: str | None = None
    """folder of the sweep; default: what the file says, else runs/<name of the file>"""
    workers: int | None = None
    """trainings at a time; default: one a core, or as many as fit into the accelerators' memory"""
    backend: Literal["auto", "ray", "processes"] = "auto"
    """auto takes Ray if it is installed"""
    device: str | None = None
    """where they run: cpu, cuda (all accelerators), cuda:1; default: where each run's configuration says"""
    address: str | None = None
    """an existing Ray cluster; default: a local one, started for this sweep"""


def run_sweep_command(command: Sweep) -> int:
    """Train the grid and print the gathered table; 1 where a training of it failed, or is missing still."""
    from neuralmechanics.experiments.sweep import load_sweep, run_sweep

    sweep = load_sweep(command.config, out=command.out)
    table = run_sweep(
        sweep,
        workers=command.workers,
        backend=command.backend,
        address=command.address,
        device=command.device,
        meter=terminal_meter(),
    )
    print(table.to_string(index=False))
    print(f"table  {sweep.out / 'table.csv'}")
    failed = table.loc[~table["status"].astype(str).str.startswith("finished")]
    if len(failed):
        first = f"{failed['run'].iloc[0]}: {failed['status'].iloc[0]}"
        print(f"{len(failed)} of {len(table)} trainings did not finish; {first}", file=sys.stderr)
    return 1 if len(failed) else 0
