"""`find`, `check`, `count`, `lint`: what symmetry says about a model that nobody has trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from neuralmechanics.cli.target import Resolved, Target, resolve
from neuralmechanics.cli.terminal.meter import terminal_status
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
    program: bool = False
    """print the model as the program of typed primitives in which the symmetries are found"""


@dataclass(frozen=True)
class Check:
    """Check found symmetries against the model itself: invariance, gradient and Hessian constraints."""

    target: Annotated[Target, _Flat]
    batches: int = 2
    """how many batches to check on"""
    probe: bool = True
    """also find symmetries from gradients alone, and show the difference"""


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
    """Print the table of families, or what was asked for in its place."""
    import json

    if command.program and (command.json or command.per_parameter):
        raise ValueError("--program prints the program alone: leave out --json and --per-parameter")
    found = resolve(command.target, allocate=False)

    from neuralmechanics.symmetry import find_symmetries, lowered_program, spaces_table

    if command.program:
        print(lowered_program(found.model, found.batch, found.loss))
        return
    symmetries = find_symmetries(found.model, found.batch, found.loss)
    if command.json:
        print(json.dumps(symmetries.to_dict(), indent=2))
    elif command.per_parameter:
        for state in symmetries.coverage:
            print(f"{state.parameter}  {state}")
    else:
        print(symmetries)
        if symmetries.spaces:
            print(f"\nSpaces of channels, and the groups that act on them:\n\n{spaces_table(symmetries.spaces)}")


def run_check(command: Check) -> None:
    """Print the report of the check, then what gradients alone show and where the two differ.

    A family that does not hold is an error.
    """
    if command.batches < 1:
        raise ValueError(f"batches must be at least 1, got {command.batches}")
    size = command.target.batch_size
    found = resolve(replace(command.target, batch_size=size * command.batches))

    import torch

    from neuralmechanics.diagnostics import check_symmetries
    from neuralmechanics.symmetry import find_symmetries

    batches = list(zip(torch.split(found.batch[0], size), torch.split(found.batch[1], size), strict=True))

    with terminal_status("checking"):
        # On the first batch alone: what is found must then hold on the others.
        symmetries = find_symmetries(found.model, batches[0], found.loss)
        report = check_symmetries(symmetries, found.model, found.loss, batches)
    print(report)
    if command.probe:
        with terminal_status("probing"):
            print(_probed(found, batches, symmetries, command.target.seed))
    if not report.ok:
        raise ValueError("at least one family is broken on this model; see the table")


def _probed(found: Resolved, batches: list[Any], symmetries: Any, seed: int) -> str:
    """The probe in float64 beside what was found, or why there is none.

    On random inputs: pixels that are constant in the data at hand would pass for translations.
    """
    import torch

    from neuralmechanics.diagnostics import probe_symmetries
    from neuralmechanics.diagnostics.probing.comparison import compare
    from neuralmechanics.report import text_table

    model, draw = found.model.double(), torch.Generator().manual_seed(seed)
    try:
        probed = probe_symmetries(model, found.loss, [_randomised(batch, draw) for batch in batches])
    except ValueError as error:
        return f"\nnot probed: {error}"
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return f"\nFrom gradients alone, on random inputs:\n\n{text_table(compare(symmetries, probed, shapes))}"


def _randomised(batch: Any, draw: Any) -> Any:
    """Normal float64 inputs of the same shape, or the tokens as they are; the labels stay."""
    import torch

    inputs, labels = batch
    if inputs.is_floating_point():
        inputs = torch.randn(inputs.shape, generator=draw, dtype=torch.float64)
    return inputs, labels


def run_count(command: Count) -> None:
    """Print the bounds on the number of laws."""
    found = resolve(command.target)

    from neuralmechanics.diagnostics.counting.counting import count_laws

    with terminal_status("counting") as tell:
        count = count_laws(found.model, found.batch, found.loss, optimizer=command.optimizer, progress=tell)
    print(count)


def run_lint(command: Lint) -> int:
    """Print the remarks on the model; exit status 1 where one of them is a warning."""
    found = resolve(command.target)

    from neuralmechanics.diagnostics import lint

    report = lint(found.model, found.batch, found.loss, command.optimizer)
    print(report)
    return 0 if report.ok else 1
