"""The commands, and which function runs each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from neuralmechanics import __version__
from neuralmechanics.cli.demo import Demo, run_demo
from neuralmechanics.cli.explain import (
    Budget,
    Compare,
    Findings,
    Forecast,
    run_budget,
    run_compare,
    run_findings,
    run_forecast,
)
from neuralmechanics.cli.figures import Figures, run_figures
from neuralmechanics.cli.flow import Flow, run_flow
from neuralmechanics.cli.inspect import Check, Count, Find, Lint, run_check, run_count, run_find, run_lint
from neuralmechanics.cli.rewriting.align import Align, run_align
from neuralmechanics.cli.rewriting.equivalent import Equivalent, run_equivalent
from neuralmechanics.cli.rewriting.maps import Map, run_map
from neuralmechanics.cli.rewriting.rewrite import Rewrite, run_rewrite
from neuralmechanics.cli.runs import Errors, Report, Train, run_errors, run_report, run_train
from neuralmechanics.cli.sweep import Sweep, run_sweep_command
from neuralmechanics.configuration.build import load_config
from neuralmechanics.experiments.config import TrainConfig


@dataclass(frozen=True)
class Version:
    """Print the version."""


def run_version(command: Version) -> None:
    """Print the package's version."""
    print(__version__)


_RUN: dict[type[Any], Callable[[Any], int | None]] = {
    Demo: run_demo,
    Find: run_find,
    Check: run_check,
    Count: run_count,
    Lint: run_lint,
    Equivalent: run_equivalent,
    Align: run_align,
    Rewrite: run_rewrite,
    Map: run_map,
    Train: run_train,
    Errors: run_errors,
    Report: run_report,
    Findings: run_findings,
    Budget: run_budget,
    Forecast: run_forecast,
    Compare: run_compare,
    Figures: run_figures,
    Sweep: run_sweep_command,
    Flow: run_flow,
    Version: run_version,
}


def commands(arguments: Sequence[str]) -> Any:
    """The union of all commands; `train CONFIG …` takes its defaults from the file, so that flags override it."""
    start = _training_default(arguments)
    return (
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Find, tyro.conf.subcommand("find")]
        | Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Count, tyro.conf.subcommand("count")]
        | Annotated[Lint, tyro.conf.subcommand("lint")]
        | Annotated[Equivalent, tyro.conf.subcommand("equivalent")]
        | Annotated[Align, tyro.conf.subcommand("align")]
        | Annotated[Rewrite, tyro.conf.subcommand("rewrite")]
        | Annotated[Map, tyro.conf.subcommand("map")]
        | Annotated[Train, tyro.conf.subcommand("train", default=start)]
        | Annotated[Errors, tyro.conf.subcommand("errors")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Findings, tyro.conf.subcommand("findings")]
        | Annotated[Budget, tyro.conf.subcommand("budget")]
        | Annotated[Forecast, tyro.conf.subcommand("forecast")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Figures, tyro.conf.subcommand("figures")]
        | Annotated[Sweep, tyro.conf.subcommand("sweep")]
        | Annotated[Flow, tyro.conf.subcommand("flow")]
        | Annotated[Version, tyro.conf.subcommand("version")]
    )


def _training_default(arguments: Sequence[str]) -> Train:
    """`train`'s defaults: those in the file that follows it directly, or else in whatever argument ends in `.toml`."""
    # Read before the flags are: values of the file are the defaults that flags override.
    if not arguments or arguments[0] != "train":
        return Train()
    rest = arguments[1:]
    files = [word for word in rest if word.endswith(".toml")]
    if rest and not rest[0].startswith("-"):
        files.insert(0, rest[0])
    return Train(training=load_config(files[0], TrainConfig)) if files else Train()


def run(command: Any) -> int:
    """Run one parsed command; its exit status, 0 where it has none of its own."""
    return _RUN[type(command)](command) or 0
