"""Names of ATen's operations stand in the rules alone: what an operation does is said in one place."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.lowering.rules import RULES

ROOT = Path(__file__).resolve().parents[3]


def house() -> ModuleType:
    """The script that measures the source."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "house", module)  # where dataclasses look for their own module
        spec.loader.exec_module(module)
    return module


@cache
def naming() -> Mapping[Path, list[str]]:
    """The files of the engine that name operations, but for the rules."""
    found: Mapping[Path, list[str]] = house().naming_operations(ROOT)
    return found


def test_the_rules_are_known_to_name_operations() -> None:
    """Were it not seen there, it would be seen nowhere."""
    rules = sorted((ROOT / "src" / "neuralmechanics" / "symmetry").rglob("rules/elementwise.py"))
    assert len(rules) == 1
    assert house().names_of_operations(rules[0])


def test_prose_and_other_tables_are_no_names_of_operations(tmp_path: Path) -> None:
    file = tmp_path / "prose.py"
    file.write_text(
        '"""Of ``aten.linear`` this is prose."""\n\nKINDS = ("translation", "scale", "rescale", "linear")\n'
    )
    assert house().names_of_operations(file) == []
    file.write_text('A = {"relu", "leaky_relu", "abs"}\nB = name == "aten.linear"\nC = torch.ops.aten.add\n')
    assert len(house().names_of_operations(file)) == 3


def test_operations_are_named_in_the_rules_alone() -> None:
    found = naming()
    assert not found, {str(path.relative_to(ROOT)): lines[:3] for path, lines in found.items()}


def test_one_function_in_one_file_is_all_that_an_operation_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else names it; without the function it is unknown, and with it all is known that follows."""
    source = ROOT / "src" / "neuralmechanics"
    naming = [path for path in source.rglob("*.py") if "logsumexp" in path.read_text(encoding="utf-8")]
    assert [path.parent.parent.name for path in naming] == ["rules"]

    def normalised(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        scores = x @ w["a"]
        return scores - torch.logsumexp(scores, 1, keepdim=True)

    weights, x = {"a": torch.zeros(3, 4)}, torch.zeros(5, 3)
    found = find_symmetries(normalised, x, params=weights)
    assert found.unknown == ()
    assert found.count()["translation"] == 3  # one for each input: what is added to all outputs cancels
    monkeypatch.delitem(RULES, "aten.logsumexp")
    without = find_symmetries(normalised, x, params=weights)
    assert [entry.operation for entry in without.unknown] == ["aten.logsumexp"]
    assert not len(without)
