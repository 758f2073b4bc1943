"""`equivalent`: whether two checkpoints of a model are one function, and which tensors say that they are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neuralmechanics.cli.target import Target, resolve
from neuralmechanics.cli.terminal.meter import terminal_status

_Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Checkpoints:
    """Two checkpoints of one model, each a file of weights or a folder of shards."""

    a: tyro.conf.Positional[Path]
    """the first checkpoint"""
    b: tyro.conf.Positional[Path]
    """the second one"""


@dataclass(frozen=True)
class Equivalent:
    """Say whether two checkpoints are one function; if not, name the tensors that no symmetry explains (status 1)."""

    target: Annotated[Target, _Flat]
    checkpoints: Annotated[Checkpoints, _Flat]
    tolerance: float | None = None
    """relative gap of a tensor that counts as rounding; default: by the dtypes"""
    json: bool = False
    """print the answer as JSON"""


def run_equivalent(command: Equivalent) -> int:
    """Print the answer; 0 where they are equivalent, 1 where not."""
    import json

    from neuralmechanics.rewrite.comparing import equivalent
    from neuralmechanics.rewrite.files.state import read_state

    before, after = (read_state(path) for path in (command.checkpoints.a, command.checkpoints.b))
    found = resolve(command.target)
    with terminal_status("comparing"):
        answer = equivalent(found.model, found.batch, before, after, found.loss, tolerance=command.tolerance)
    print(json.dumps(answer.to_dict(), indent=2) if command.json else answer)
    return 0 if answer.equal else 1
