"""`train`: one training from a TOML file, flags, or both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from neuralmechanics.cli.meter import terminal_meter
from neuralmechanics.experiments.config import TrainConfig


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


def run_train(command: Train) -> None:
    """Train, then print the scores and where the run lies."""
    from neuralmechanics.experiments.training.loop import train

    result = train(command.training, command.out, resume=command.resume, meter=terminal_meter())
    scores = result.performance
    print(f"{result.steps} steps in {result.seconds:.1f} s")
    print(f"test loss {scores.loss:.4f}  top-1 {scores.top1:.2%}  top-5 {scores.top5:.2%}")
    print(f"run  {Path(command.out)}")
