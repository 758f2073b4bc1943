"""`align`: the second of two checkpoints brought as near to the first as the model's symmetries allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neuralmechanics.cli.rewriting.equivalent import Checkpoints
from neuralmechanics.cli.target import Target, resolve
from neuralmechanics.cli.terminal.meter import terminal_status

_Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Align:
    """Write the second checkpoint, transformed by the symmetry that brings it nearest to the first."""

    target: Annotated[Target, _Flat]
    checkpoints: Annotated[Checkpoints, _Flat]
    out: Path | None = None
    """file to write (.safetensors or .pt); without it only the distance is said"""
    json: bool = False
    """print what was done as JSON"""


def run_align(command: Align) -> None:
    """Print the distance and the element, and write the aligned checkpoint."""
    import json

    from neuralmechanics.files.weights import require_new, write_weights
    from neuralmechanics.rewrite.comparing import aligned_checkpoint
    from neuralmechanics.rewrite.files.state import read_state

    if command.out is not None:
        require_new(command.out)  # before minutes of work
    a, b = (read_state(path) for path in (command.checkpoints.a, command.checkpoints.b))
    found = resolve(command.target)
    with terminal_status("aligning"):
        answer = aligned_checkpoint(found.model, found.batch, a, b, found.loss)
    if command.out is not None:
        write_weights(command.out, answer.element.transform(b))
    if command.json:
        print(json.dumps({"distance": answer.distance, "element": answer.element.summary().split("\n")}, indent=2))
    else:
        print(f"{answer.distance:.3g} of the norm apart after:\n{answer.element.summary()}")
