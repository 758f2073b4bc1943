"""Plants faults in copies of the source, one at a time, and says which the tests catch.

    python -m tests.faults                  all of them, about half a minute to some minutes each
    python -m tests.faults laws slices      those of some areas
    python -m tests.faults "the pole"       those whose name holds the words

A fault is caught when one of its tests fails. Exit status 1 where one is not. Nothing is written beside the copies,
which lie in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.catalogue import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 900  # seconds


def planted(fault: Fault, text: str) -> str:
    """The text with the fault in it; ValueError where its place is not there once."""
    if text.count(fault.before) != 1:
        raise ValueError(f"{fault.name}: {fault.file} holds its place {text.count(fault.before)} times, not once")
    return text.replace(fault.before, fault.after)


def outcome(fault: Fault) -> str:
    """``caught``, ``survived``, or why nothing can be said."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        file = source / "neuralmechanics" / fault.file
        file.write_text(planted(fault, file.read_text()))
        environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *fault.tests]
        try:
            run = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            return "caught (it did not end)"
        if run.returncode == 0:
            return "survived"
        failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if run.returncode == 1 and failed:
            return f"caught by {failed[0].split()[1].removeprefix('tests/')}"
        return f"nothing is known: pytest ended with {run.returncode}: {(run.stdout + run.stderr).strip()[-200:]}"


def main(words: list[str]) -> int:
    """Every fault of the named areas, or whose name holds one of the words; all without any."""
    chosen = [f for f in FAULTS if not words or any(word == f.area or word in f.name for word in words)]
    counts: Counter[str] = Counter()
    for fault in chosen:
        began = time.monotonic()
        found = outcome(fault)
        counts[found.split()[0]] += 1
        print(f"{time.monotonic() - began:5.0f} s  {fault.area}: {fault.name}: {found}", flush=True)
    print(f"{counts['caught']} of {len(chosen)} caught")
    return 0 if counts["caught"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
