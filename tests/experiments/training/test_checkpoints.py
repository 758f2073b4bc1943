"""Checkpoints: every byte under a checksum, an earlier one taken loudly, nothing half-written, weights that fit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from neuralmechanics.experiments.data import Position
from neuralmechanics.experiments.models.restore import restore_weights
from neuralmechanics.experiments.training.checkpoints import (
    checkpoints,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from neuralmechanics.files import publishing
from neuralmechanics.monitor import MonitorWarning


def _network() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(6, 5)).sum().backward()
    optimizer.step()
    return model, optimizer


def _state(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def test_no_flipped_bit_and_no_cut_is_loaded(tmp_path: Path) -> None:
    model, optimizer = _network()
    path = save_checkpoint(tmp_path, model, optimizer, Position(7, 1, 3))
    whole, before = path.read_bytes(), _state(model)
    assert load_checkpoint(path, model, optimizer) == Position(7, 1, 3)
    assert torch.load(path, weights_only=True)["position"] == {"step": 7, "epoch": 1, "offset": 3}
    chance = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with pytest.raises(ValueError, match="step-000000007"):
            load_checkpoint(path, model, optimizer)
    for length in (0, 1, 30, 31, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="step-000000007"):
            last_checkpoint(tmp_path)
    assert all(map(torch.equal, _state(model), before))


def test_an_earlier_sound_checkpoint_is_taken_and_it_is_said(tmp_path: Path) -> None:
    model, optimizer = _network()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, model, optimizer, Position(step))
    newest, older = checkpoints(tmp_path)
    assert [path.name for path in (newest, older)] == ["step-000000003.pt", "step-000000002.pt"]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(MonitorWarning, match=r"step-000000003.pt' \(it is cut short.* from step-000000002"):
        assert last_checkpoint(tmp_path) == older
    # The training goes on below the damaged one: what is kept are the two newest of its own.
    for step in (4, 5):
        save_checkpoint(tmp_path, model, optimizer, Position(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000005.pt", "step-000000004.pt"]


def test_pruning_spares_what_was_sound_below_a_damaged_checkpoint(tmp_path: Path) -> None:
    model, optimizer = _network()
    for step in (10, 30):
        save_checkpoint(tmp_path, model, optimizer, Position(step))
    save_checkpoint(tmp_path, model, optimizer, Position(20))
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:09d}.pt" for step in (30, 20, 10)]


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_full_disk_is_one_line_and_the_checkpoints_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    model, optimizer = _network()
    kept = save_checkpoint(tmp_path, model, optimizer, Position(1))
    calls = iter(range(10_000))

    class FullDisk:
        def __getattr__(self, name: str) -> object:
            return getattr(__import__("os"), name)

        def write(self, handle: int, content: bytes) -> int:
            if next(calls) >= after:
                raise OSError(28, "No space left on device")
            return __import__("os").write(handle, content)

    monkeypatch.setattr(publishing, "os", FullDisk())
    with pytest.raises(OSError, match="No space left on device") as error:
        save_checkpoint(tmp_path, model, optimizer, Position(2))
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert last_checkpoint(tmp_path) == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w["0.weight"].fill_(float("nan")), "0.weight holds nan or infinite"),
        (lambda w: w["2.bias"].fill_(float("inf")), "2.bias holds nan or infinite"),
        (lambda w: w.update({"0.weight": w["0.weight"].long()}), r"0.weight is torch.int64 there, torch.float32 here"),
        (lambda w: w.update({"0.bias": w["0.bias"] + 1j}), r"0.bias is torch.complex64 there"),
        (lambda w: w.update({"0.bias": w["0.bias"] > 0}), r"0.bias is torch.bool there"),
        (
            lambda w: w.update({"1.num_batches_tracked": torch.tensor(1.5)}),
            "num_batches_tracked is torch.float32 there",
        ),
        (lambda w: w.update({"0.bias": torch.zeros(3)}), r"0.bias is \(3,\) there, \(4,\) here"),
        (lambda w: w.pop("0.bias"), r"missing \['0.bias'\]"),
        (lambda w: w.update({3: torch.zeros(1)}), "holds no mapping of named tensors"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_do_not_belong_are_refused(tmp_path: Path, change, message: str, suffix: str) -> None:
    from safetensors.torch import save_file

    model, _ = _network()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(weights)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(weights, path)
    elif 3 in weights:
        pytest.skip("names are texts there")
    else:
        save_file(weights, path)
    before = _state(model)
    with pytest.raises(ValueError, match=message) as error:
        restore_weights(model, path)
    assert "\n" not in str(error.value)
    assert all(map(torch.equal, _state(model), before))
