"""`train`, `errors`, `report`: one run, from its training to what its record says."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neuralmechanics.cli.terminal.meter import terminal_meter
from neuralmechanics.experiments.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Train:
    """Train a network and record its charges. Flags go before the values of CONFIG, which go before the defaults."""

    config: tyro.conf.Positional[str | None] = None
    """TOML file with the training's configuration"""
    out: str = "runs/train"
    """folder of the run"""
    resume: bool = False
    """continue the run in that folder from its last checkpoint"""
    training: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Errors:
    """Print the errors of every law, by family, relative to the initial charge."""

    run: tyro.conf.Positional[str]
    """folder of the run"""
    by: Literal["max_error", "rms_error"] = "max_error"
    """largest error, or root mean square"""
    csv: bool = False
    """print every column as CSV"""


@dataclass(frozen=True)
class Report:
    """Write the run's page and figures; of several runs one page that lays them over one another."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """folders of runs"""
    out: str | None = None
    """the page's file; default: report.html in the run's folder, comparison.html here for several"""


def run_train(command: Train) -> None:
    """Train, then print the scores and where the run lies."""
    from neuralmechanics.experiments.data import require_here

    # Data that is not here is said before torch loads.
    require_here(command.training.data, command.training.images)
    from neuralmechanics.experiments.training.loop import train

    result = train(command.training, command.out, resume=command.resume, meter=terminal_meter())
    scores = result.performance
    print(f"{result.steps} steps in {result.seconds:.1f} s")
    print(f"test loss {scores.loss:.4f}  top-1 {scores.top1:.2%}  top-5 {scores.top5:.2%}")
    print(f"run  {Path(command.out)}")


def run_errors(command: Errors) -> None:
    """Print the error table."""
    from neuralmechanics.monitor import open_run

    run = open_run(command.run)
    errors: pd.DataFrame = run.errors()
    if command.csv:
        print(errors.to_csv(index=False), end="")
    else:
        print_errors(run, command.by)
    print_warnings(run)


def print_warnings(run: Any) -> None:
    """What the monitor said while it recorded, on the standard error stream: a table on the other stays a table."""
    for note in run.warnings:
        # A warning names layers, and a layer may be named anything.
        printable = "".join(c if c.isprintable() else "?" for c in note.message)
        print(f"warning: {printable}", file=sys.stderr)


def print_errors(run: Any, by: str = "max_error") -> None:
    """The tables by family and by kind, and which charges were not finite."""
    from neuralmechanics.report import errors_by_law, nonfinite_remark, text_table

    errors: pd.DataFrame = run.errors()
    print(text_table(errors_by_law(errors, by)))
    print(f"\n{text_table(errors_by_law(run.errors(by='kind'), by))}")
    if remark := nonfinite_remark(errors):
        print(f"\n{remark}")


def run_report(command: Report) -> None:
    """Write page and figures and print where they are."""
    from neuralmechanics.monitor import open_run
    from neuralmechanics.report import write_comparison

    if not command.runs:
        raise ValueError("report takes the folder of a run, or of several to compare")
    if len(command.runs) > 1:
        print(write_comparison([open_run(run) for run in command.runs], command.out or "comparison.html"))
        return
    folder = command.runs[0]
    for path in write_pictures(open_run(folder), Path(folder), command.out):
        print(path)


def write_pictures(run: Any, folder: Path, page: str | Path | None = None) -> list[Path]:
    """The page and every figure of a run, as files."""
    from neuralmechanics.report import save_figures, write_report

    return [write_report(run, page or folder / "report.html"), *save_figures(run, folder / "figures")]
