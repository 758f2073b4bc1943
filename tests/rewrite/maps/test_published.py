"""Maps of transformers' models against those that llm-compressor has by hand, and against the functions themselves."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import nn

from neuralmechanics.rewrite.maps import (
    awq_mappings,
    check_mappings,
    permutation_spec,
    smoothquant_mappings,
    spinquant_mapping,
)
from neuralmechanics.symmetry import Symmetries, find_symmetries

from .applying import permute_all, rotate_all, sets_of, smooth_all
from .language_models import NAMES, language_model, tokens
from .published import AWQ, SMOOTHQUANT

# What our maps have beyond the published ones, beside the norm before the head, which is not quantised by default.
MORE = {
    ("awq", "gemma3"): {"input_layernorm"},
    ("smoothquant", "gemma2"): {"pre_feedforward_layernorm"},
    ("smoothquant", "deepseek-v3"): {"q_a_layernorm", "kv_a_layernorm", "post_attention_layernorm"},
}
# Published sets that are no symmetry of these models, by their smooth layer.
WRONG = {
    # Stands behind attention there, and what it gives out enters the stream: the MLP does not read it.
    ("smoothquant", "gemma2"): {"post_attention_layernorm"},
    # The router and the packed experts read the same channels.
    ("awq", "glm4-moe-lite"): {"post_attention_layernorm"},
}
EXPERTS = {"qwen2-moe", "mixtral", "deepseek-v3", "glm4-moe-lite"}
SPINQUANT = {"llama", "llama-grouped", "llama-tied", "qwen2", "qwen3", "mistral", "granite"}


@cache
def found(name: str) -> tuple[nn.Module, Symmetries]:
    model = language_model(name, meta=False)
    return model, find_symmetries(model, tokens(meta=False))


def drawn(name: str) -> nn.Module:
    """The model with gains and biases that are neither ones nor zeros, in double precision where its experts allow."""
    model, draw = copy.deepcopy(found(name)[0]), torch.Generator().manual_seed(0)
    model = model if name in EXPERTS else model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand(parameter.shape, generator=draw, dtype=torch.float64) + 0.5)
            else:
                parameter.mul_(8.0)
    return model


def assert_same_function(before: nn.Module, after: nn.Module) -> None:
    with torch.no_grad():
        expected, given = (model(tokens(meta=False)).logits for model in (before, after))
    # Norms inside transformers' models are computed in single precision, and so is all of a model with experts.
    assert (given - expected).abs().max() < 1e-5 * expected.abs().max()


def slow_but(name: str) -> object:
    return name if name == "llama-grouped" else pytest.param(name, marks=pytest.mark.slow)


def resolved(model: nn.Module, mappings: object) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for mapping in mappings:  # type: ignore[attr-defined]
        smooth, balance = (
            (mapping["smooth_layer"], mapping["balance_layers"]) if isinstance(mapping, dict) else mapping[::-1]
        )
        out |= {one: set(others) for one, others in sets_of(model, smooth, balance)}
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [*(("awq", name) for name in AWQ), *(("smoothquant", name) for name in SMOOTHQUANT)]
)
def test_maps_are_the_published_ones(kind: str, name: str) -> None:
    model, symmetries = found(name)
    published = [{"smooth_layer": s, "balance_layers": b} for s, b in (AWQ if kind == "awq" else SMOOTHQUANT)[name]]
    findings = check_mappings(model, tokens(meta=False), published, symmetries=symmetries)
    wrong = {f.smooth_layer.rpartition(".")[2] for f in findings if f.verdict != "exact"}
    expected = WRONG.get((kind, name), set())
    # Of grouped heads a value is read by several columns: the tool leaves such sets out by itself.
    grouped = {f.smooth_layer.rpartition(".")[2] for f in findings if "grouped heads" in f.reason}
    assert wrong - grouped == expected
    ours = resolved(
        model, (awq_mappings if kind == "awq" else smoothquant_mappings)(model, None, symmetries=symmetries)
    )
    for finding in findings:
        if finding.verdict == "exact":
            assert ours[finding.smooth_layer] == set(finding.balance_layers)
    exact = {finding.smooth_layer for finding in findings if finding.verdict == "exact"}
    beyond = {smooth.rpartition(".")[2] for smooth in ours if smooth not in exact} - {"norm"}
    assert beyond == MORE.get((kind, name), set())


@pytest.mark.parametrize("name", [slow_but(n) for n in NAMES if n != "gpt2"])
def test_smoothing_by_the_map_changes_nothing(name: str) -> None:
    symmetries, before = found(name)[1], drawn(name)
    mappings = awq_mappings(before, None, symmetries=symmetries)
    after = copy.deepcopy(before)
    sets = [one for m in mappings for one in sets_of(after, m["smooth_layer"], m["balance_layers"])]
    smooth_all(after, sets, torch.Generator().manual_seed(1))
    assert_same_function(before, after)


@pytest.mark.parametrize("name", [slow_but(n) for n in NAMES])
def test_turning_by_the_map_changes_nothing(name: str) -> None:
    symmetries, before = found(name)[1], drawn(name)
    if name not in SPINQUANT:
        with pytest.raises(ValueError, match=r"^no map for SpinQuant: "):
            spinquant_mapping(found(name)[0], tokens(meta=False), symmetries=symmetries)
        return
    result = spinquant_mapping(found(name)[0], tokens(meta=False), symmetries=symmetries)
    after = copy.deepcopy(before)
    rotate_all(after, result.mapping, result.norm_mappings, torch.Generator().manual_seed(1))
    assert_same_function(before, after)


@pytest.mark.parametrize("name", [slow_but(n) for n in NAMES])
def test_permuting_by_the_map_changes_nothing(name: str) -> None:
    symmetries, before = found(name)[1], drawn(name)
    spec, draw = permutation_spec(before, None, symmetries=symmetries), torch.Generator().manual_seed(1)
    chosen = {perm: torch.randperm(width, generator=draw) for perm, width in spec.widths.items()}
    after = copy.deepcopy(before)
    after.load_state_dict(permute_all(before.state_dict(), spec.axes_to_perm, chosen))
    assert_same_function(before, after)


@pytest.mark.slow
def test_weights_stored_the_other_way_round_are_refused() -> None:
    model, symmetries = found("gpt2")
    with pytest.raises(ValueError, match=r"stored as \[inputs, outputs\] \(Conv1D\)"):
        awq_mappings(model, None, symmetries=symmetries)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma", "GemmaTextScaledWordEmbedding|signed permutations"),
        ("phi3", "packed into one tensor"),
        ("opt", "only rotations that keep the mean"),
        ("mixtral", "MixtralTopKRouter|no layer's own weight"),
        ("olmo2", "signed permutations, not the orthogonal one"),
    ],
)
def test_rotations_are_refused_with_the_reason(name: str, reason: str) -> None:
    model, symmetries = found(name)
    with pytest.raises(ValueError, match=reason):
        spinquant_mapping(model, tokens(meta=False), symmetries=symmetries)
