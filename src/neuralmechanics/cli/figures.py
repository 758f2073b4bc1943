"""`figures`: the paper's, those of theory drawn at once, those of trainings after their trainings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from neuralmechanics.cli.terminal.meter import terminal_meter
from neuralmechanics.progress import Meter


@dataclass(frozen=True)
class Figures:
    """Make the paper's figures with their tables of errors, training what they need."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """fig1 … fig5, momentum, phase, schedules, orders; none: all"""
    scale: Literal["smoke", "small", "paper"] = "smoke"
    """size of the trainings behind them"""
    out: str = "figures"
    """folder of the figures"""


def run_figures(command: Figures) -> None:
    """Draw the figures and print their files."""
    for path in draw(command.names, command.scale, Path(command.out), terminal_meter()):
        print(path)


def draw(names: Sequence[str], scale: Literal["smoke", "small", "paper"], out: Path, meter: Meter) -> list[Path]:
    """Draw `names` (all, if none is given) into `out`; trainings go to `out`/runs and are made once.

    Raises `ValueError` for a figure nobody knows.
    """
    from neuralmechanics.experiments.paper import PAPER_FIGURES
    from neuralmechanics.report.theory.figures import FIGURES

    known = sorted({*FIGURES, *PAPER_FIGURES})
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown figure {name!r}; the nearest known name is {nearest!r}")
    written: list[Path] = []
    out.mkdir(parents=True, exist_ok=True)
    for name in names or known:
        if name in FIGURES:
            path = out / f"{name}.png"
            FIGURES[name]().savefig(path, dpi=150, facecolor="white")
            written.append(path)
        else:
            written += _from_runs(name, scale, out, meter)
    return written


def _from_runs(name: str, scale: Literal["smoke", "small", "paper"], out: Path, meter: Meter) -> list[Path]:
    from neuralmechanics.experiments.paper import paper_sweep
    from neuralmechanics.experiments.sweep import run_sweep
    from neuralmechanics.monitor import open_run
    from neuralmechanics.report.paper import save_paper_figure

    sweep = paper_sweep(name, scale, out / "runs" / scale / name)
    table = run_sweep(sweep, meter=meter)
    for run, status in zip(table["run"], table["status"], strict=True):
        # A figure of fewer runs than it names would be wrong without saying so.
        if status != "finished":
            raise ValueError(f"run {run} of {name}: {status}")
    return save_paper_figure(name, [open_run(sweep.folder(point)) for point in sweep.points], out)
