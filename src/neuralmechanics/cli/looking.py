"""`find`, `check`, `count`, `lint`: what symmetry says about a model that nobody has trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from neuralmechanics.cli.meter import terminal_status
from neuralmechanics.cli.target import Target, resolve
from neuralmechanics.experiments.config import OptimizerConfig

_Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Find:
    """Find every symmetry of a model: translations, scales, rescales, linear families."""

    target: Annotated[Target, _Flat]
    json: bool = False
    """print the families as JSON"""
    per_parameter: bool = False
    """print, for each parameter, what covers it or what ends its symmetry"""


@dataclass(frozen=True)
class Check:
    """Check found symmetries against the model itself: invariance, gradient and Hessian constraints."""

    target: Annotated[Target, _Flat]
    batches: int = 2
    """how many batches to check on"""


@dataclass(frozen=True)
class Count:
    """Count the independent conservation laws of a (small) model."""

    target: Annotated[Target, _Flat]
    optimizer: Literal["gradient_flow", "weight_decay", "heavy_ball", "sign_descent"] = "gradient_flow"
    """the flow whose laws are counted"""


@dataclass(frozen=True)
class Lint:
    """Say what symmetry tells before a step is taken: dead biases, scale-free weights, broken constants."""

    target: Annotated[Target, _Flat]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def run_find(command: Find) -> None:
    """Print the table of families."""
    import json

    found = resolve(command.target, allocate=False)

    from neuralmechanics.symmetry import find_symmetries

    symmetries = find_symmetries(found.model, found.batch, found.loss)
    if command.json:
        print(json.dumps(symmetries.to_dict(), indent=2))
    elif command.per_parameter:
        for state in symmetries.coverage:
            why = ", ".join(state.families) or state.ended_by
            print(f"{state.parameter}  {state.status}{': ' if why else ''}{why}")
    else:
        print(symmetries)


def run_check(command: Check) -> None:
    """Print the report of the check; an inconsistent symmetry is an error."""
    import torch

    if command.batches < 1:
        raise ValueError(f"batches must be at least 1, got {command.batches}")
    found = resolve(command.target)

    from neuralmechanics.symmetry import check_symmetries, find_symmetries

    symmetries = find_symmetries(found.model, found.batch, found.loss)
    generator = torch.Generator().manual_seed(command.target.seed)
    batches = [found.batch]
    for _ in range(command.batches - 1):
        order = torch.randperm(len(found.batch[1]), generator=generator)
        inputs, labels = found.batch
        batches.append((inputs, labels[order]))
    report = check_symmetries(symmetries, found.model, found.loss, batches)
    print(report)
    if not report.ok:
        raise ValueError("at least one family is broken on this model; see the table")


def run_count(command: Count) -> None:
    """Print the bounds on the number of laws."""
    found = resolve(command.target)

    from neuralmechanics.symmetry.counting import count_laws

    with terminal_status("counting") as tell:
        count = count_laws(found.model, found.batch, found.loss, optimizer=command.optimizer, progress=tell)
    print(count)


def run_lint(command: Lint) -> None:
    """Print the remarks on the model."""
    found = resolve(command.target)

    from neuralmechanics.experiments.optimizer import make_optimizer
    from neuralmechanics.symmetry import find_symmetries, lint

    symmetries = find_symmetries(found.model, found.batch, found.loss)
    for remark in lint(symmetries, found.model, make_optimizer(found.model.parameters(), command.optimizer)):
        print(remark)
