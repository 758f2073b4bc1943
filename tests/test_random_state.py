"""A test is the same test in every process, alone or after thousands of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent


def test_each_begins_with_the_same_random_state() -> None:
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_examples_do_not_depend_on_the_modules_that_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis reads the numbers of every module that lies here, and would draw them."""
    numbers = [0.5 + 1.0 / n for n in range(3, 80)]
    path = tmp_path / "numbers_of_mine.py"
    path.write_text(f"NUMBERS = {numbers}\n")

    def drawn() -> list[float]:
        found: list[float] = []

        @settings(max_examples=100, derandomize=True)
        @given(st.floats(0.5, 1.0))
        def draw(number: float) -> None:
            found.append(number)

        draw()
        return found

    before = drawn()
    module = ModuleType("numbers_of_mine")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "numbers_of_mine", module)
    assert drawn() == before


@pytest.mark.slow
def test_two_processes_collect_the_same_tests() -> None:
    """No order of sets, no place in memory, no time of day and no zone of time is in a test's name."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider"]
    found = []
    for seed, zone in (("1", "UTC"), ("77", "Asia/Tokyo")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found.append([line for line in done.stdout.splitlines() if "::" in line])
    assert len(found[0]) > 10_000
    assert found[0] == found[1]
