"""`figures`: the paper's, those of theory drawn at once, those of trainings after their trainings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from neuralmechanics.cli.terminal.meter import terminal_meter
from neuralmechanics.progress import Meter

if TYPE_CHECKING:
    from neuralmechanics.experiments.sweep import Sweep

Scale = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class Figures:
    """Make the paper's figures with their tables of errors, training what they need."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """fig1 … fig5, momentum, performance, phase, schedules, sums, orders; all, or none: all of them"""
    scale: Scale = "smoke"
    """size of the trainings behind them"""
    out: str = "figures"
    """folder of the figures"""
    workers: int | None = None
    """trainings at a time; default: one a core, or as many as fit into the accelerators' memory"""
    device: str | None = None
    """where they run: cpu, cuda (all accelerators), cuda:1; default: an accelerator where there is one"""
    dry_run: bool = False
    """print runs, hours, disk and memory, from a few steps of each kind of training, and train nothing"""


def run_figures(command: Figures) -> None:
    """Draw the figures and print their files, or what they would cost."""
    from neuralmechanics.experiments.sweep.beforehand import require_beforehand

    names = _known(command.names)
    sweep = _trainings(names, command.scale, Path(command.out))
    # What it would cost is told without the data.
    require_beforehand(replace(sweep, data_first=False) if command.dry_run else sweep, command.workers)
    if command.dry_run:
        print_cost(sweep, command.workers, command.device)
        return
    out, meter = Path(command.out), terminal_meter()
    for path in draw(names, command.scale, out, meter, workers=command.workers, device=command.device):
        print(path)


def draw(
    names: Sequence[str],
    scale: Scale,
    out: Path,
    meter: Meter,
    *,
    workers: int | None = None,
    device: str | None = None,
) -> list[Path]:
    """Draw `names` (all, if none is given) into `out`; trainings go to `out`/runs and are made once for all figures.

    Raises `ValueError` for a figure nobody knows, or a device.
    """
    from neuralmechanics.experiments.paper import paper_sweep
    from neuralmechanics.experiments.sweep import run_sweep
    from neuralmechanics.experiments.sweep.devices import device_pool
    from neuralmechanics.monitor import open_run
    from neuralmechanics.report.paper import save_paper_figure
    from neuralmechanics.report.theory.figures import FIGURES

    names = _known(names)
    if device is not None:
        # For its error: figures that train nothing would never ask.
        device_pool(device)
    written: list[Path] = []
    sweep = _trainings(names, scale, out)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in FIGURES:
            path = out / f"{name}.png"
            FIGURES[name]().savefig(path, dpi=150, facecolor="white")
            written.append(path)
    if not sweep.points:
        return written
    table = run_sweep(sweep, meter=meter, workers=workers, device=device)
    for run, status in zip(table["run"], table["status"], strict=True):
        # A figure of fewer runs than it names would be wrong without saying so.
        if status != "finished":
            raise ValueError(f"run {run}: {status}")
    for name in names:
        if name not in FIGURES:
            points = paper_sweep(name, scale, sweep.out).points
            written += save_paper_figure(name, [open_run(sweep.folder(point)) for point in points], out)
    return written


def print_cost(sweep: Sweep, workers: int | None, device: str | None) -> None:
    """A line for each kind of training, and what all of them take together."""
    from neuralmechanics.experiments.sweep.devices import default_workers, device_pool
    from neuralmechanics.experiments.sweep.estimate import cost_of, totals
    from neuralmechanics.experiments.sweep.worker import is_finished

    missing = [point.config for point in sweep.points if not is_finished(sweep.folder(point))]
    print(f"{len(sweep.points)} runs in {sweep.out}, {len(sweep.points) - len(missing)} of them finished")
    if not missing:
        return
    count = min(workers or default_workers(missing, device_pool(device)), len(missing))
    groups: dict[tuple[object, ...], list[int]] = {}
    costs = [cost_of(config, device) for config in missing]
    for position, config in enumerate(missing):
        groups.setdefault((config.model, config.data, config.batch_size, config.record.every), []).append(position)
    print(
        f"{'model':14} {'data':14} {'batch':>5} {'runs':>4} {'steps':>7} {'s/step':>8} {'GB disk':>8} {'GB memory':>9}"
    )
    for (model, data, batch, _), positions in groups.items():
        first = costs[positions[0]]
        disk = sum(costs[k].records + costs[k].checkpoints for k in positions)
        print(
            f"{model:14} {data:14} {batch:5} {len(positions):4} {first.steps:7} {first.seconds:8.3g} "
            f"{disk / 1e9:8.2f} {first.memory / 1e9:9.2f}"
        )
    hours, disk, memory = totals(costs, count)
    records = sum(cost.records for cost in costs)
    print(
        f"together {hours:.3g} hours with {count} at a time, {disk / 1e9:.3g} GB on disk ({records / 1e9:.3g} GB of it "
        f"records), {memory / 1e9:.3g} GB of memory at once"
    )


def _known(names: Sequence[str]) -> list[str]:
    """The figures that are meant, each once; `ValueError` for one nobody knows, with the nearest."""
    from neuralmechanics.experiments.paper import PAPER_FIGURES
    from neuralmechanics.report.theory.figures import FIGURES

    known = sorted({*FIGURES, *PAPER_FIGURES})
    for name in names:
        if name not in (*known, "all"):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown figure {name!r}; the nearest known name is {nearest!r}")
    return known if not names or "all" in names else list(dict.fromkeys(names))


def _trainings(names: Sequence[str], scale: Scale, out: Path) -> Sweep:
    from neuralmechanics.experiments.paper import PAPER_FIGURES, paper_sweep

    return paper_sweep([name for name in names if name in PAPER_FIGURES], scale, out / "runs" / scale)
