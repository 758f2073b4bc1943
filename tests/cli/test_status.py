"""Exit statuses: of a check that fails, and of remarks that warn."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuralmechanics.cli import main

MODULE = '''
from torch import nn

def biased(input_shape, classes):
    """A bias before a norm, which has no gradient."""
    width = input_shape[0]
    return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, classes, bias=False))

def clean(input_shape, classes):
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.Tanh(), nn.Linear(8, classes, bias=False))
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"status_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_lint_ends_with_1_where_it_warns(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--input-shape", "5", "--batch-size", "16"]
    assert main(["lint", f"{module}:clean", *shape]) == 0
    assert "no findings" in capsys.readouterr().out
    assert main(["lint", f"{module}:biased", *shape]) == 1
    assert "zero-gradient" in capsys.readouterr().out


def test_check_ends_with_2_where_a_family_is_broken(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is printed, and one line says that something is wrong."""
    shape = ["--input-shape", "5", "--batch-size", "16"]
    assert main(["check", f"{module}:clean", *shape]) == 0
    found = capsys.readouterr()
    assert "0 broken" in found.out
    import neuralmechanics.symmetry as symmetry
    from neuralmechanics.symmetry import from_generator

    def wrong(model: object, *_: object) -> object:
        family = from_generator("wrong", lambda p: {"0.weight": p["0.weight"]}, model)  # type: ignore[arg-type]
        return symmetry.Symmetries((family,))

    monkeypatch.setattr(symmetry, "find_symmetries", wrong)
    assert main(["check", f"{module}:clean", *shape]) == 2
    found = capsys.readouterr()
    assert "1 broken" in found.out
    assert found.err.strip().endswith("at least one family is broken on this model; see the table")


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["neuralmechanics", "find", "nowhere:x"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("neuralmechanics", run_name="__main__")
    assert ended.value.code == 2
    assert "No module named 'nowhere'" in capsys.readouterr().err
