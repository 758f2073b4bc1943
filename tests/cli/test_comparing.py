"""`equivalent` and `align`: two checkpoints in files, the answer in the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuralmechanics.cli import main
from neuralmechanics.experiments import build_model

TARGET = ["mlp", "--input-shape", "6", "--classes", "3"]


def checkpoints(folder: Path) -> dict[str, torch.Tensor]:
    """a: a network; b: its first hidden units in another order; c: without the order in the layer that reads them."""
    model = build_model("mlp", input_shape=(6,), classes=3, seed=0)
    state = {name: value.detach().clone() for name, value in model.named_parameters()}
    (first, bias), reader = list(state)[:2], list(state)[2]
    order = torch.randperm(len(state[bias]), generator=torch.Generator().manual_seed(1))
    rows = state | {first: state[first][order], bias: state[bias][order]}
    save_file(state, folder / "a.safetensors")
    save_file(rows, folder / "c.safetensors")
    save_file(rows | {reader: state[reader][:, order].contiguous()}, folder / "b.safetensors")
    return state


def test_answers_and_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = checkpoints(tmp_path)
    a, b, c, out = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "c", "out"))
    assert main(["equivalent", *TARGET, a, b]) == 0
    assert "channels change places" in capsys.readouterr().out
    assert main(["equivalent", *TARGET, a, c, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["equal"], answer["tensors"]) == (False, [list(state)[2]])
    assert main(["align", *TARGET, a, b, "--out", out]) == 0
    assert all(torch.allclose(state[name], value, atol=1e-6) for name, value in load_file(out).items())


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    assert main(["equivalent", *TARGET, str(tmp_path / "bad.safetensors"), str(tmp_path)]) == 2
    assert "is not a readable safetensors file" in capsys.readouterr().err
    assert main(["align", *TARGET, str(tmp_path / "none"), str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("none'; give a file of weights, or a folder with one or with shards\n")
