"""What is told of a run when it begins: how it is made, and where it comes from (versions, host, source revision)."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.symmetry import Symmetries


def run_content(
    model: nn.Module, optimizers: Sequence[Optimizer], symmetries: Symmetries, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.json` holds: configuration, origin, symmetries."""
    groups = [
        {key: _plain(value) for key, value in group.items() if key != "params"}
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]
    configuration = {
        "monitor": dict(options),
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": {"name": ", ".join(type(each).__name__ for each in optimizers), "groups": groups},
    }
    return {"configuration": configuration, "origin": provenance(), "symmetries": symmetries.to_dict()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def provenance(folder: Path | None = None) -> dict[str, Any]:
    """Versions, platform and, inside a git work tree, the revision with a mark for uncommitted changes."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("neuralmechanics", "torch", "numpy", "safetensors")},
        },
        "platform": platform.platform(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [],
        "source": source_revision(folder or Path.cwd()),
    }


def source_revision(folder: Path) -> dict[str, Any] | None:
    """`{"revision": …, "modified": …}` of the git work tree around a folder; None when there is none."""
    # One process, for it takes longer to start than to answer: a line "# branch.oid …" and one for each change.
    told = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    lines = [] if told is None else told.splitlines()
    revision = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if revision == "(initial)":
        return None
    return {"revision": revision, "modified": not all(line.startswith("# ") for line in lines)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
