"""Checkpoints rewritten on disk: the tensors are those of the plan, everything else stays as it was."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from neuralmechanics.rewrite import fold, rotate
from neuralmechanics.rewrite.files import rewrite_checkpoint
from neuralmechanics.rewrite.files.checkpoint import open_checkpoint
from neuralmechanics.rewrite.plan import Plan

from ..maps.networks import decoder, texts
from .checkpoints import INDEX, digests, load_all, on_meta, save_shards


@cache
def planned(tied: bool = False) -> tuple[nn.Module, nn.Module, Plan]:
    """A decoder, the same without weights, and the plan that folds and turns it, found without weights."""
    model = decoder(layers=1, bias=True, tied=tied)
    hollow = on_meta(model)
    return model, hollow, rotate(hollow, texts().to("meta"), prepare=True).plan


def test_the_tensors_are_those_of_the_plan_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    model, hollow, plan = planned()
    state = dict(model.state_dict()) | {"unknown": torch.arange(5), "layers.0.left": torch.full((2,), torch.nan)}
    source = save_shards(tmp_path / "in", state)
    before = digests(source)
    report = rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    after = load_all(tmp_path / "out")
    expected = plan.apply(model.state_dict())
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    assert torch.equal(after["unknown"], state["unknown"])
    assert after["layers.0.left"].isnan().all()
    assert digests(source) == before
    kept = {name: digest for name, digest in before.items() if not name.endswith(".safetensors")}
    assert {name: d for name, d in digests(tmp_path / "out").items() if name in kept} == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert set(report.unknown) == {"unknown", "layers.0.left"}
    assert set(report.changed) == set(plan.tensors)
    assert report.bytes_written == sum(value.nbytes for value in state.values())


def test_a_rewritten_checkpoint_computes_the_same(tmp_path: Path) -> None:
    model, hollow, plan = planned()
    rewrite_checkpoint(save_shards(tmp_path / "in", model.state_dict()), tmp_path / "out", plan, hollow)
    other = decoder(layers=1, bias=True)
    other.load_state_dict(load_all(tmp_path / "out"))
    expected = model(texts())
    assert (other(texts()) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert not torch.allclose(other.lm_head.weight, model.lm_head.weight)


def test_order_types_and_metadata_of_every_file_are_kept(tmp_path: Path) -> None:
    model, hollow, plan = planned()
    source = save_shards(tmp_path / "in", {n: v.bfloat16() for n, v in model.state_dict().items()})
    rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    for path in sorted(source.glob("*.safetensors")):
        length = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert (tmp_path / "out" / path.name).read_bytes()[:length] == path.read_bytes()[:length]
        with safe_open(tmp_path / "out" / path.name, "pt") as file:
            assert file.metadata()["format"] == "pt"


def test_every_tensor_is_read_once_where_the_plan_permits(tmp_path: Path) -> None:
    hollow, batch = (
        on_meta(nn.Sequential(nn.Embedding(9, 4), nn.RMSNorm(4), nn.Linear(4, 3))),
        torch.zeros(2, dtype=int),
    )
    model = nn.Sequential(nn.Embedding(9, 4), nn.RMSNorm(4), nn.Linear(4, 3))
    plan = rotate(hollow, batch.to("meta"), prepare=True).plan
    report = rewrite_checkpoint(save_shards(tmp_path / "in", model.state_dict()), tmp_path / "out", plan, hollow)
    # The gain once for itself, or once for the layer that reads it: small tensors stay.
    assert report.bytes_read == report.bytes_written == sum(p.nbytes for p in model.parameters())


def test_one_file_becomes_one_file(tmp_path: Path) -> None:
    model, hollow, plan = planned()
    save_file(dict(model.state_dict()), tmp_path / "in.safetensors")
    rewrite_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", plan, hollow)
    after, expected = load_all(tmp_path / "out.safetensors"), plan.apply(model.state_dict())
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.safetensors", "out.safetensors"]


def test_untied_tensors_are_added_beside_what_they_copy(tmp_path: Path) -> None:
    model, hollow, plan = planned(tied=True)
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    source = save_shards(tmp_path / "in", state, config={"tie_word_embeddings": True, "x": [1]})
    with pytest.raises(ValueError, match=r"lm_head.weight would be tied again .* has tie_word_embeddings true"):
        rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    assert not (tmp_path / "out").exists()
    report = rewrite_checkpoint(source, tmp_path / "out", plan, hollow, untie_config=True)
    after, expected = load_all(tmp_path / "out"), plan.apply(model.state_dict())
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["weight_map"]["lm_head.weight"] == index["weight_map"]["embed_tokens.weight"]
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in expected.values())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"tie_word_embeddings": False, "x": [1]}
    assert report.added == ("lm_head.weight",)
    other = decoder(layers=1, bias=True)
    other.load_state_dict(after)
    assert (other(texts()) - model(texts())).abs().max() < 1e-12 * model(texts()).abs().max()


def test_both_names_of_a_tied_tensor_change_alike(tmp_path: Path) -> None:
    model, hollow = (f(decoder(layers=1, tied=True)) for f in (lambda m: m, on_meta))
    plan = fold(hollow, texts().to("meta")).plan
    source = save_shards(tmp_path / "in", model.state_dict())
    rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    after, expected = load_all(tmp_path / "out"), plan.apply(model.state_dict())
    assert all(torch.equal(after[name], value) for name, value in expected.items())


def test_two_names_of_one_tensor_that_differ_in_the_files_are_refused(tmp_path: Path) -> None:
    model, hollow, plan = planned(tied=True)
    state = dict(model.state_dict()) | {"lm_head.weight": model.lm_head.weight.detach() + 1}
    source = save_shards(tmp_path / "in", state, config={"tie_word_embeddings": False})
    with pytest.raises(ValueError, match="are one tensor in the model and differ in the files"):
        rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    model, hollow, plan = planned()
    source = save_shards(tmp_path / "in", model.state_dict())
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (tmp_path / "out", tmp_path / "link", source):
        with pytest.raises(FileExistsError, match="something is at"):
            rewrite_checkpoint(source, target, plan, hollow)
    with pytest.raises(ValueError, match="lies inside"):
        rewrite_checkpoint(source, source / "tokens" / "out", plan, hollow)
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        rewrite_checkpoint(source, tmp_path / "a" / "b", plan, hollow)


def test_links_to_shards_are_followed(tmp_path: Path) -> None:
    """As a cache of downloads keeps them: names that point to blobs elsewhere."""
    model, hollow, plan = planned()
    blobs = save_shards(tmp_path / "blobs", model.state_dict())
    (tmp_path / "in").mkdir()
    for path in blobs.iterdir():
        (tmp_path / "in" / path.name).symlink_to(path, target_is_directory=path.is_dir())
    rewrite_checkpoint(tmp_path / "in", tmp_path / "out", plan, hollow)
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    after, expected = load_all(tmp_path / "out"), plan.apply(model.state_dict())
    assert all(torch.equal(after[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("types", "precision"),
    [
        ({"*": torch.bfloat16}, torch.float32),
        ({"*": torch.float16}, torch.float32),
        ({"*": torch.bfloat16, "gain": torch.float16}, torch.float32),
        ({"*": torch.bfloat16, "gain": torch.float32}, torch.float64),
        ({"*": torch.float32}, torch.float64),
    ],
    ids=["bfloat16", "half", "both halves", "gains in single", "single"],
)
def test_what_has_sixteen_bits_alone_is_computed_in_single_precision(
    types: dict[str, torch.dtype], precision: torch.dtype, tmp_path: Path
) -> None:
    """All that the plan concerns; one tensor with more digits is enough for double precision."""
    model, hollow, plan = planned()
    state = {
        name: value.to(types["gain"] if value.ndim == 1 and "gain" in types else types["*"])
        for name, value in model.state_dict().items()
    }
    source = save_shards(tmp_path / "in", state)
    rewrite_checkpoint(source, tmp_path / "out", plan, hollow)
    after = load_all(tmp_path / "out")
    for name in plan.tensors:
        assert after[name].dtype == state[name].dtype
        assert torch.equal(after[name], plan.value(name, state.__getitem__, precision))


def test_a_file_that_becomes_shorter_while_it_is_read_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(4), "b": torch.ones(400)}, tmp_path / "in.safetensors")
    checkpoint = open_checkpoint(tmp_path / "in.safetensors")
    content = (tmp_path / "in.safetensors").read_bytes()
    (tmp_path / "in.safetensors").write_bytes(content[:-3])
    assert len(checkpoint.raw("a")) == 16
    with pytest.raises(ValueError, match=r"tensor 'b' of .* ends early: the file has become shorter while it was read"):
        checkpoint.raw("b")
