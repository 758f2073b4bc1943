"""1e9 parameters folded and turned from shard to shard: each byte read and written once, in two gigabytes of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str) -> str:
    command = [sys.executable, "-m", "tests.rewrite.files.large", *words]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_a_checkpoint_of_a_billion_parameters_is_rewritten_in_little_memory(tmp_path: Path) -> None:
    run("make", str(tmp_path / "in"))
    found = json.loads(run("rewrite", str(tmp_path / "in")).splitlines()[-1])
    print(found)
    assert found["parameters"] > 1e9
    assert found["changed"] == 183
    assert found["bytes_read"] == found["bytes_written"] == 2 * found["parameters"]
    assert found["peak_bytes"] < 2e9
