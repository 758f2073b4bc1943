"""What a rewrite of files refuses: in one line, with the file, the tensor and what to do, and with nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from neuralmechanics.rewrite import fold
from neuralmechanics.rewrite.files import rewrite_checkpoint
from neuralmechanics.rewrite.plan import Plan

from .checkpoints import INDEX, digests, on_meta, save_shards

SECOND = "model-00002-of-00003.safetensors"


def network() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 3))


@cache
def folded() -> tuple[nn.Module, Plan]:
    hollow = on_meta(network())
    return hollow, fold(hollow, torch.zeros(2, dtype=torch.long, device="meta")).plan


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    """One tensor of whatever shard has it replaced, or left out."""

    def spoil(source: Path) -> None:
        for path in source.glob("*.safetensors"):
            tensors = load_file(path)
            if name in tensors:
                value = change(tensors.pop(name))
                save_file(tensors if value is None else {**tensors, name: value.contiguous()}, path)

    return spoil


def indexed(**entries: object) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        content = json.loads((source / INDEX).read_text())
        content["weight_map"] |= entries
        (source / INDEX).write_text(json.dumps(content))

    return spoil


def cut(source: Path) -> None:
    content = (source / SECOND).read_bytes()
    (source / SECOND).write_bytes(content[:-3])


def twice(source: Path) -> None:
    save_file({**load_file(source / SECOND), "0.weight": torch.zeros(9, 4)}, source / SECOND)


def without(name: str) -> Callable[[Path], None]:
    return lambda source: (source / name).unlink()


def lying(source: Path) -> None:
    """A header whose tensor is longer than its type and shape say."""
    path = source / SECOND
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"shape":[4]', b'"shape":[3]'))


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing-shard": (without(SECOND), rf"names the shard '{SECOND}', which is missing; fetch it again"),
    "absent-tensor": (indexed(ghost=SECOND), rf"says that tensor 'ghost' is in '{SECOND}', and it is not"),
    "outside": (indexed(ghost="../x.safetensors"), "leads out of the folder"),
    "missing-tensor": (changed("2.weight", lambda _: None), "says that tensor '2.weight' is in"),
    "shape": (changed("2.weight", lambda t: t[:, :2]), r"'2.weight' of .* has shape \(3, 2\), the model's has"),
    "nan": (changed("1.weight", lambda t: t * torch.nan), r"'1.weight' of .* holds nan at entry 0; repair it"),
    "infinite": (changed("2.weight", lambda t: t / 0), r"'2.weight' of .* holds -?inf at entry 0; repair it"),
    "integers": (changed("2.weight", lambda t: t.to(torch.int8)), r"'2.weight' of .* is of type I8, and the rewrite"),
    "eight-bits": (changed("2.weight", lambda t: t.to(torch.float8_e4m3fn)), r"is of type F8_E4M3, and .*; convert it"),
    "overflow": (
        lambda source: [changed(n, lambda t: torch.full_like(t, 6e4).half())(source) for n in ("1.weight", "2.weight")],
        r"new values of tensor '2.weight' of .* are not finite in F16",
    ),
    "cut": (cut, r"00002.* is no whole safetensors file: it has \d+ bytes, its header speaks of \d+; copy it again"),
    "lying": (lying, r"00002.*: tensor '1.weight' of type F32 and shape \(3,\) has 16 bytes; copy it again"),
    "twice": (twice, "tensor '0.weight' is in two shards"),
    "two-checkpoints": (
        lambda s: save_file({"x": torch.zeros(1)}, s / "model.safetensors"), "has both 'model.safetensors' and an index"
    ),
    "two-indices": (lambda s: (s / "b.safetensors.index.json").write_text("{}"), "has 2 indices"),
    "no-map": (lambda source: (source / INDEX).write_text("[]"), "has no weight_map from tensors to shards"),
    "not-json": (lambda source: (source / INDEX).write_text("{"), "cannot be read: "),
    "no-index": (without(INDEX), r"has 3 safetensors files \(.*\) and no index"),
    "no-weights": (
        lambda source: [path.unlink() for path in source.glob("model*")], "has no safetensors file and no index"
    ),
    "no-header": (lambda s: (s / SECOND).write_bytes(b"abc"), "does not begin with the length of its header"),
    "long-header": (lambda s: (s / SECOND).write_bytes(b"\xff" * 64), "does not begin with the length of its header"),
    "loop": (lambda s: (s / "tokens" / "up").symlink_to(s, target_is_directory=True), "is a link to a folder that it"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_checkpoint_that_is_not_what_it_should_be_is_refused(name: str, tmp_path: Path) -> None:
    hollow, plan = folded()
    source = save_shards(tmp_path / "in", network().state_dict())
    spoil, reason = REFUSED[name]
    spoil(source)
    before = digests(source) if name != "loop" else {}
    with pytest.raises(ValueError, match=reason) as error:
        rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert name == "loop" or digests(source) == before


def test_a_model_that_has_more_than_the_files_is_refused(tmp_path: Path) -> None:
    hollow, plan = folded()
    state = {name: value for name, value in network().state_dict().items() if name != "2.bias"}
    with pytest.raises(ValueError, match=r"tensor '2.bias' of the model is in no file of "):
        rewrite_checkpoint(save_shards(tmp_path / "in", state), tmp_path / "out", plan, hollow)


def test_there_must_be_something_to_rewrite(tmp_path: Path) -> None:
    hollow, plan = folded()
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        rewrite_checkpoint(tmp_path / "in", tmp_path / "out", plan, hollow)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hollow, plan = folded()
    source = save_shards(tmp_path / "in", network().state_dict())

    def full(event: str) -> None:
        if event.startswith("closed"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        rewrite_checkpoint(source, tmp_path / "out", plan, hollow, progress=full)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
