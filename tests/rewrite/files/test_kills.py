"""A rewrite that is killed at any moment leaves its target absent or whole, and its source as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .killing import POINTS

ROOT = Path(__file__).resolve().parents[3]


def killed(folder: Path, *how: str) -> list[dict[str, str]]:
    environment = dict(os.environ, OMP_NUM_THREADS="1")  # a child of a process with threads could wait for them forever
    command = [sys.executable, "-m", "tests.rewrite.files.killing", str(folder), *how]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]


def test_killed_at_named_points(tmp_path: Path) -> None:
    found = killed(tmp_path, "points")
    assert [(one["point"], one["ended"], one["left"]) for one in found] == [
        *((point, "killed", "absent") for point in POINTS[:-1]),
        ("published", "killed", "whole"),
        ("none", "status 0", "whole"),
    ]


@pytest.mark.slow
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    found = killed(tmp_path, "times", "0", "50")
    assert len(found) == 51
    assert {one["left"] for one in found} <= {"absent", "whole"}
    assert {one["ended"] for one in found} <= {"killed", "status 0"}
    assert sum(one["ended"] == "killed" for one in found) > 10
