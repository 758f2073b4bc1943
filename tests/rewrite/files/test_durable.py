"""What was written is on the disk, files and folders, before it gets its name, and the name after that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neuralmechanics.files.weights import write_weights
from neuralmechanics.rewrite import fold
from neuralmechanics.rewrite.files import rewrite_checkpoint

from .checkpoints import save_shards


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def _shards(folder: Path) -> Path:
    model = _model()
    plan = fold(model, torch.zeros(2, 3)).plan
    source = save_shards(folder.parent / "from", model.state_dict())
    rewrite_checkpoint(source, folder / "to", plan, model)
    return folder / "to"


def _one_file(folder: Path) -> Path:
    model = _model()
    source = folder.parent / "from.safetensors"
    save_file(model.state_dict(), source)
    rewrite_checkpoint(source, folder / "to.safetensors", fold(model, torch.zeros(2, 3)).plan, model)
    return folder / "to.safetensors"


def _weights(folder: Path) -> Path:
    write_weights(folder / "to.safetensors", {"w": torch.ones(3)})
    return folder / "to.safetensors"


def _archive(folder: Path) -> Path:
    write_weights(folder / "to.pt", {"w": torch.ones(3)})
    return folder / "to.pt"


@pytest.mark.parametrize("write", [_shards, _one_file, _weights, _archive], ids=lambda f: f.__name__.strip("_"))
def test_everything_is_on_the_disk_before_it_has_its_name(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file keeps its number when it is renamed: those that were synced are told by it."""
    said: list[int | str] = []
    sync, move = os.fsync, os.replace

    def fsync(handle: int) -> None:
        said.append(os.fstat(handle).st_ino)
        sync(handle)

    def replace(source: Path, target: Path) -> None:
        said.append(f"{target.name} has its name")
        move(source, target)

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    made = write(folder)
    named = said.index(f"{made.name} has its name")
    assert {path.stat().st_ino for path in (made, *made.rglob("*"))} <= set(said[:named])
    assert said[named + 1 :] == [folder.stat().st_ino]
