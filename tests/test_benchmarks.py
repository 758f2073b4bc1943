"""The page of benchmarks is made of its numbers by the command, and its command runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.pages import DOCS, ROOT

BENCHMARKS = ROOT / "benchmarks"
DATA, PAGE = DOCS / "about" / "benchmarks.json", DOCS / "about" / "benchmarks.md"


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem.strip('_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _title(section: str) -> str:
    tree = ast.parse((BENCHMARKS / "suite" / f"{section}.py").read_text())
    (title,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TITLE"
    ]
    assert isinstance(title, str)
    return title


def test_the_page_is_what_the_command_makes_of_its_numbers() -> None:
    found = json.loads(DATA.read_text())
    assert PAGE.read_text() == _module(BENCHMARKS / "suite" / "page.py").page(found)


def test_the_page_of_accelerators_is_what_the_command_makes_of_its_numbers() -> None:
    found = json.loads((DOCS / "about" / "accelerators.json").read_text())
    assert (DOCS / "about" / "accelerators.md").read_text() == _module(BENCHMARKS / "accelerators" / "page.py").page(
        found
    )
    assert all(row["waits"] == 0 for row in found["cost"])


def test_every_section_is_there_and_every_number_is_one() -> None:
    found = json.loads(DATA.read_text())
    sections = _module(BENCHMARKS / "suite" / "__init__.py").SECTIONS
    assert [section["title"] for section in found["sections"]] == [_title(name) for name in sections]
    for section in found["sections"]:
        assert section["rows"]
        for row in section["rows"]:
            assert math.isfinite(row["value"]), row
            assert math.isfinite(row["other"]), row
    assert found["versions"].keys() >= {"Python", "torch", "neuralmechanics"}
    assert found["machine"].keys() >= {"processor", "cores", "memory"}


@pytest.mark.slow
def test_the_command_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "all.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert "Made with `--quick`" in (tmp_path / "benchmarks.md").read_text()
