"""`map` and `rewrite` of a folder, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from neuralmechanics.cli import main

FACTORY = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Linear(64, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10))
"""
TARGET = ("own:make", "--input-shape", "64", "--batch-size", "2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own", raising=False)
    return tmp_path


def test_maps_are_printed_and_what_is_not_in_them_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", *TARGET, "--for", "awq"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"smooth_layer": "1", "balance_layers": ["2"]},
        {"smooth_layer": "2", "balance_layers": ["4"]},
    ]
    assert main(["map", *TARGET, "--for", "smoothquant"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [[["2"], "1"]]
    assert "not in the map: {2, 4}.weight: the tool measures what 2 gives out" in printed.err
    assert main(["map", *TARGET, "--for", "spinquant"]) == 2
    assert capsys.readouterr().err == (
        "neuralmechanics: error: no map for SpinQuant: no embedding writes a space of channels\n"
    )


def test_maps_are_written_to_new_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", *TARGET, "--for", "permutations", "--out", "map.json"]) == 0
    spec = json.loads((here / "map.json").read_text())
    assert [len(places) for places in spec["perm_to_axes"].values()] == [5, 3]
    assert main(["map", *TARGET, "--out", "map.json"]) == 2
    assert "something is at 'map.json' already" in capsys.readouterr().err


def test_a_folder_is_rewritten_into_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(64, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10)).double()
    nn.init.normal_(model[1].weight), nn.init.normal_(model[1].bias)
    (here / "in").mkdir()
    save_file(dict(model.state_dict()), here / "in" / "model.safetensors")
    (here / "in" / "config.json").write_text("{}")
    assert main(["rewrite", *TARGET, "--fold", "--in", "in", "--out", "out"]) == 0
    assert "4 tensors changed, 0 added, in 'out'" in capsys.readouterr().out
    assert sorted(path.name for path in (here / "out").iterdir()) == ["config.json", "model.safetensors"]
    after = load_file(here / "out" / "model.safetensors")
    assert torch.equal(after["1.weight"], torch.ones(6, dtype=torch.float64))
    x = torch.randn(5, 64, dtype=torch.float64)
    expected = model(x)
    model.load_state_dict(after)
    assert (model(x) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert main(["rewrite", *TARGET, "--fold", "--in", "in", "--out", "out"]) == 2
    assert "something is at 'out' already" in capsys.readouterr().err
    assert main(["rewrite", *TARGET, "--equalise", "max", "--in", "in", "--out", "more"]) == 2
    assert "--equalise looks at all weights at once" in capsys.readouterr().err
