"""`map`: which tensors must move together, in the formats of other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from neuralmechanics.cli.target import Resolved, Target, resolve

_Flat = tyro.conf.arg(name="")
Format = Literal["awq", "smoothquant", "spinquant", "permutations", "json"]


@dataclass(frozen=True)
class Map:
    """Write which tensors of a model must move together, as another tool reads it."""

    target: Annotated[Target, _Flat]
    format: Annotated[Format, tyro.conf.arg(name="for")] = "json"
    """llm-compressor's mappings (awq, smoothquant, spinquant), git-re-basin's specification (permutations), or all that
    is known (json)"""
    out: str = ""
    """write to this new file; default: print"""


def run_map(command: Map) -> None:
    """Print or write the map; what the format cannot say goes to stderr, a line each."""
    import sys

    from neuralmechanics.cli.terminal.text import one_line
    from neuralmechanics.files.publishing import publish

    path = Path(command.out)
    if command.out and path.exists():
        raise FileExistsError(f"something is at {command.out!r} already; name a file that does not exist")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of {command.out!r} does not exist; make it first")
    found = resolve(command.target, allocate=not command.target.model.startswith("hf:"))
    text, told = _written(command.format, found)
    if command.out:
        publish(path, text.encode() + b"\n")
    else:
        print(text)
    for line in told:
        print(one_line(line), file=sys.stderr)


def _written(form: Format, found: Resolved) -> tuple[str, list[str]]:
    """The map as JSON, and what is to be said beside it."""
    import json

    from neuralmechanics.rewrite import maps

    # What must stay is the whole output, not a loss, which may be blind to some of it.
    given = (found.model.eval(), found.batch, lambda model, batch: model(batch[0]))
    result: Any
    if form == "json":
        return json.dumps(maps.symmetry_map(*given), indent=2), []
    if form == "spinquant":
        result = maps.spinquant_mapping(*given)
        return str(result), [f"note: {note}" for note in result.notes]
    make = {"awq": maps.awq_mappings, "smoothquant": maps.smoothquant_mappings, "permutations": maps.permutation_spec}
    result = make[form](*given)
    refused = [f"not in the map: {refusal}" for refusal in result.refused]
    return str(result), [*refused, *(f"note: {note}" for note in result.notes)]
