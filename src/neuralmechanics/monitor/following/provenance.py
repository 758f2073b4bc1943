"""Where a run comes from: library versions, host and the source revision of the working folder."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


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
