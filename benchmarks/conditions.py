"""Under which conditions numbers were measured: date, revision, machine, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def conditions() -> dict[str, Any]:
    """All of them, as data."""
    today = datetime.now(UTC).date().isoformat()
    return {"date": today, "revision": revision(), "machine": machine(), "versions": versions()}


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    names = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[0]) / 2**20:.0f} GB" if memory else "unknown",
        "system": platform.platform(terse=True),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """Of what computes."""
    import numpy
    import torch

    import neuralmechanics

    return {
        "neuralmechanics": neuralmechanics.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def revision() -> str:
    """The commit, with a plus where the tree differs from it."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
