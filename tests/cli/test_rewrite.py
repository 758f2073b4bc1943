"""`rewrite` writes a file of weights that compute the same, or nothing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from neuralmechanics.cli import main
from neuralmechanics.cli.rewriting.rewrite import Rewrite, _steps
from neuralmechanics.cli.target import Target

SOURCE = """
import torch
from torch import nn

def make():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LayerNorm(16), nn.Linear(16, 10))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's source and its weights, whose gains are not one."""
    monkeypatch.chdir(tmp_path)
    Path("rewritten_model.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rewritten_model", raising=False)
    model = importlib.import_module("rewritten_model").make()
    torch.nn.init.normal_(model[2].weight)
    torch.save(model.state_dict(), "w.pt")
    return tmp_path


def test_a_file_is_rewritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rewrite", "rewritten_model:make", "--fold", "--centre", "--in", "w.pt", "--out", "new", "--json"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["certificate"]["ok"]
    assert [change["kind"] for change in answer["plan"]["changes"]] == [
        "add",
        "fill",
        "multiply",
        "fill",
        "centre",
        "centre",
    ]
    before, after = torch.load("w.pt"), torch.load("new/w.pt")
    assert list(after) == list(before)
    assert bool((after["2.weight"] == 1).all())
    model = importlib.import_module("rewritten_model").make()
    x = torch.randn(4, 64)
    outputs = []
    for params in (before, after):
        model.load_state_dict(params)
        outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert sorted(path.name for path in Path("new").iterdir()) == ["w.pt"]


def test_all_actions_in_the_order_in_which_each_leaves_room_for_the_next() -> None:
    """What is drawn at random is drawn from the seed that was given."""
    target = Target("mlp", seed=7)
    asked = Rewrite(
        target, untie=True, fold=True, centre=True, smooth=0.25, equalise="l2", rotate="random", permute=True
    )
    assert _steps(asked) == [
        ("untie", {}),
        ("fold", {}),
        ("centre", {}),
        ("smooth", {"alpha": 0.25}),
        ("equalise", {"by": "l2"}),
        ("rotate", {"matrix": "random", "seed": 7}),
        ("permute", {"seed": 7}),
    ]
    assert _steps(Rewrite(target, smooth=0.0)) == [("smooth", {"alpha": 0.0})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do: give --untie, --fold"),
        (["--fold", "--in", "absent.pt"], "no weights file 'absent.pt'"),
        (["--fold", "--in", "rewritten_model.py"], "'rewritten_model.py' is no file of weights: its name must end in"),
        (["--fold", "--in", "w.pt", "--out", "w.pt"], "'w.pt' exists already; give another place"),
        (["--fold", "--in", "other.pt"], "other.pt has no '1.weight', which the model has"),
    ],
)
def test_what_cannot_be_rewritten_is_one_line(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"0.weight": torch.ones(2)}, "other.pt")
    assert main(["rewrite", "rewritten_model:make", *arguments]) == 2
    assert message in capsys.readouterr().err
