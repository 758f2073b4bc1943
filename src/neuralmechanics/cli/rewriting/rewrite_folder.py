"""`rewrite --in FOLDER --out FOLDER`: shards rewritten one tensor at a time, and all else in the folder copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralmechanics.cli.terminal.meter import terminal_status

if TYPE_CHECKING:
    from torch import nn

__all__ = ["holds_shards", "print_folder_rewrite"]

_OF_VALUES = ("smooth", "equalise")  # factors of these come from the weights themselves


def holds_shards(path: Path) -> bool:
    """Whether a path is a folder with safetensors files."""
    return path.is_dir() and any(path.glob("*.safetensors*"))


def print_folder_rewrite(
    model: nn.Module,
    batch: Any,
    steps: Sequence[tuple[str, Mapping[str, Any]]],
    folder: Path,
    out: Path | None,
    *,
    json: bool,
) -> None:
    """Print what is done and what was refused; write the new folder where ``out`` names one.

    The plan is found on the model without its weights, so that symmetry alone proves it: nothing is compared.
    """
    from json import dumps

    from neuralmechanics.rewrite import in_turn
    from neuralmechanics.rewrite.files import rewrite_checkpoint

    for action, _ in steps:
        if action in _OF_VALUES:
            raise ValueError(
                f"--{action} looks at all weights at once, which a folder is not loaded for; give one file"
            )
    with terminal_status("rewriting") as tell:
        rewritten = in_turn(model, batch, steps, _output)
        untied = any(action == "untie" for action, _ in steps)
        report = None
        if out is not None:
            report = rewrite_checkpoint(folder, out, rewritten.plan, model, untie_config=untied, progress=tell)
    if json:
        print(dumps(rewritten.to_dict() | ({"files": report.to_dict()} if report is not None else {}), indent=2))
        return
    print(rewritten)
    if report is not None:
        print(report)


def _output(model: nn.Module, batch: Any) -> Any:
    """The model's whole output on the inputs: what must stay."""
    return model(batch[0])
