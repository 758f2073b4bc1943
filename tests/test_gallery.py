"""Every example of the gallery runs, and what it asserts holds."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from tests.pages import DOCS

EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_holds(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        runpy.run_path(str(example), run_name="example")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_is_and_asserts_it(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert lines[0] == '"""'
    assert len(lines[1]) <= len(lines[2])
    assert set(lines[2]) == {"="}
    assert any(line.lstrip().startswith("assert ") for line in lines)
