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


@pytest.mark.parametrize("name", ["four_bits", "barriers"])
def test_the_pages_of_single_scripts_are_what_they_make_of_their_numbers(name: str) -> None:
    found = json.loads((DOCS / "about" / f"{name}.json").read_text())
    page = _module(BENCHMARKS / f"{name}_page.py").page(found)
    assert (DOCS / "about" / f"{name}.md").read_text() == page


def test_equalised_networks_lose_at_most_a_twentieth_to_four_bits() -> None:
    found = json.loads((DOCS / "about" / "four_bits.json").read_text())
    lost = _module(BENCHMARKS / "four_bits_page.py").lost
    assert {training["network"] for training in found["trainings"]} == {"mobilenet", "gains", "stream"}
    for training in found["trainings"]:
        assert all(proof["change"] <= proof["bound"] for proof in training["proofs"].values())
        if training["network"] == "stream":
            continue
        uneven = "uneven" if training["network"] == "mobilenet" else "outliers"
        for way in training["proofs"]:
            for measure in ("accuracy", "loss"):
                before, after = (lost(training, w, "4-bit weights", measure) for w in (uneven, way))
                assert after <= before / 20, (training["network"], training["seed"], way, measure)


def test_barriers_are_no_higher_than_by_permutations_and_at_most_half_for_a_transformer() -> None:
    found = json.loads((DOCS / "about" / "barriers.json").read_text())
    assert {pair["network"] for pair in found["pairs"]} == {"perceptron", "vgg", "transformer"}
    for pair in found["pairs"]:
        share = 0.5 if pair["network"] == "transformer" else 1.0
        for data in ("held out", "trained on"):
            assert pair[data]["align"] <= share * pair[data]["permutations"], pair


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
