"""1e9 parameters folded and turned from shard to shard: each byte read and written once, in two gigabytes of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "rewriting_files.py"), *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_a_checkpoint_of_a_billion_parameters_is_rewritten_in_little_memory(tmp_path: Path) -> None:
    run("make", str(tmp_path / "in"))
    found = json.loads(run("rewrite", str(tmp_path / "in"), str(tmp_path / "out"), "--json").splitlines()[-1])
    print(found)
    size = 2 * found["parameters"]
    assert size > 2e9
    assert found["changed"] == 183
    assert found["bytes_of_tensors_read"] == found["bytes_of_tensors_written"] == size
    headers = 1 << 20
    for counted in (found["bytes_in"], found["bytes_out"]):  # by the system; None where it does not count
        assert counted is None or size <= counted <= size + headers
    assert found["peak_bytes"] < 2e9
    # Two quiet processors share the products, which are two thirds of this, and not the search.
    assert found["plan_processor_seconds"] + (found["processor_seconds"] - found["plan_processor_seconds"]) / 2 < 60
