"""Maps for AWQ and SmoothQuant: what they name can be scaled, all of it, and nothing else is matched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from neuralmechanics.rewrite.maps import awq_mappings, smoothquant_mappings
from neuralmechanics.rewrite.maps.modules import Layers

from .applying import sets_of, smooth_all
from .networks import RMSNorm, decoder, symmetries_of_a_decoder, texts

LAYER = r"re:layers\.\d+\."


def assert_smoothing_changes_nothing(model: nn.Module, mappings: list[dict]) -> None:
    sets = [found for m in mappings for found in sets_of(model, m["smooth_layer"], m["balance_layers"])]
    moved = copy.deepcopy(model)
    smooth_all(moved, sets, torch.Generator().manual_seed(1))
    before, after = model(texts()), moved(texts())
    assert not torch.equal(
        moved.state_dict()["layers.0.input_layernorm.weight"], model.layers[0].input_layernorm.weight
    )
    assert (after - before).abs().max() < 1e-12 * before.abs().max()


def test_a_decoder_has_the_map_that_people_write() -> None:
    found = awq_mappings(decoder(), texts(), symmetries=symmetries_of_a_decoder())
    attention, mlp = LAYER + r"self_attn\.", LAYER + r"mlp\."
    assert {m["smooth_layer"]: m["balance_layers"] for m in found} == {
        LAYER + "input_layernorm$": [attention + "q_proj$", attention + "k_proj$", attention + "v_proj$"],
        LAYER + "post_attention_layernorm$": [mlp + "gate_proj$", mlp + "up_proj$"],
        attention + "v_proj$": [attention + "o_proj$"],
        mlp + "up_proj$": [mlp + "down_proj$"],
        "norm": ["lm_head"],
    }
    assert found.refused == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": 1, "bias": True},
        *(pytest.param(s, marks=pytest.mark.slow) for s in ({}, {"layers": 3, "experts": (1,)}, {"tied": True})),
    ],
)
def test_scaling_what_a_map_names_leaves_the_function_unchanged(settings: dict) -> None:
    model = decoder(**settings)
    assert_smoothing_changes_nothing(model, list(awq_mappings(model, texts())))


def test_frozen_layers_are_looked_at_like_all_others() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)).requires_grad_(False)
    assert list(awq_mappings(model, torch.zeros(2, 4))) == [{"smooth_layer": "0", "balance_layers": ["2"]}]
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_layers_of_two_kinds_have_expressions_of_their_own() -> None:
    found = {m["smooth_layer"]: m["balance_layers"] for m in awq_mappings(decoder(layers=4, experts=(1, 3)), texts())}
    plain, mixed = (rf"re:layers\.(?:{numbers})\.post_attention_layernorm$" for numbers in ("0|2", "1|3"))
    assert found[plain] == [LAYER + r"mlp\.gate_proj$", LAYER + r"mlp\.up_proj$"]
    # The router and the shared expert see every token and come before the experts.
    assert found[mixed] == [
        LAYER + r"mlp\.gate$",
        LAYER + r"mlp\.shared\.gate_proj$",
        LAYER + r"mlp\.shared\.up_proj$",
        LAYER + r"mlp\.experts\.\d+\.gate_proj$",
        LAYER + r"mlp\.experts\.\d+\.up_proj$",
    ]
    assert found[LAYER + r"mlp\.experts\.\d+\.up_proj$"] == [LAYER + r"mlp\.experts\.\d+\.down_proj$"]


def test_smoothquant_takes_what_norms_give_out() -> None:
    found = smoothquant_mappings(decoder(), texts(), symmetries=symmetries_of_a_decoder())
    attention, mlp = LAYER + r"self_attn\.", LAYER + r"mlp\."
    assert list(found) == [
        [[attention + "q_proj$", attention + "k_proj$", attention + "v_proj$"], LAYER + "input_layernorm$"],
        [[mlp + "gate_proj$", mlp + "up_proj$"], LAYER + "post_attention_layernorm$"],
        [["lm_head"], "norm"],
    ]
    refused = {next(iter(r.tensors)): r.reason for r in found.refused}
    assert "the tool measures what mlp.up_proj gives out" in refused["layers.0.mlp.up_proj.weight"]


class Alike(nn.Module):
    """Two pairs of layers whose names differ by nothing but a number, one joined by a ReLU and one by a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            x = x + down(torch.sigmoid(up(x)) if k == 1 else torch.relu(up(x)))
        return x


def test_names_are_listed_one_by_one_where_the_walk_would_pair_others() -> None:
    """All of ``up`` comes before all of ``down``: one expression for each would make one set of four layers."""
    found = [(m["smooth_layer"], m["balance_layers"]) for m in awq_mappings(Alike(), torch.zeros(2, 4))]
    assert found == [("up.0", ["down.0"]), ("up.2", ["down.2"])]


class GivenGain(nn.Module):
    """A norm whose gain is 1 + weight, before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.read = RMSNorm(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read((1 + self.norm.weight) * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt())


class Packed(nn.Module):
    """Gate and values in one layer, the values' rows first or last."""

    def __init__(self, last: bool, bias: bool) -> None:
        super().__init__()
        self.both, self.read, self.last = nn.Linear(4, 12, bias=bias), nn.Linear(6, 4), last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.both(x).chunk(2, -1) if self.last else self.both(x).chunk(2, -1)[::-1]
        return self.read(torch.sigmoid(gate) * value)


class Twice(nn.Module):
    """Two layers write the channels that one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.read = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(torch.relu(self.one(x) + self.two(x)))


class Squared(nn.Module):
    """Scores are squared ReLUs: a factor before is its square behind."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)) ** 2)


REFUSED = {
    "gain": (GivenGain(), r"the gain of norm \(RMSNorm\) is a constant \+ weight"),
    "rows-first": (Packed(last=False, bias=False), "rows 0 to 5 of both are read; the format takes the last"),
    "packed-bias": (Packed(last=True, bias=True), "both packs several layers and has a bias"),
    "two-writers": (Twice(), r"2 layers write the channels \(one, two\)"),
    "squares": (Squared(), "the powers of one factor differ"),
    "convolution": (nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1)), "0.weight has 3 dimensions"),
    "embedding": (nn.Sequential(nn.Embedding(5, 4), nn.ReLU(), nn.Linear(4, 4)), "0 is a Embedding"),
    "nothing": (nn.Linear(4, 4), "no rescaling moves the columns of any layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_format_cannot_say_is_refused_with_the_reason(name: str) -> None:
    model, reason = REFUSED[name]
    batch = torch.zeros(2, 4, dtype=torch.long) if name == "embedding" else torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=reason):
        awq_mappings(model, batch)


def test_the_last_rows_of_a_packed_layer_can_be_said_to_awq_alone() -> None:
    model = Packed(last=True, bias=False)
    (only,) = awq_mappings(model, torch.zeros(2, 4))
    assert only == {"smooth_layer": "both", "balance_layers": ["read"]}
    with pytest.raises(ValueError, match="6 of 12 rows of both are read"):
        smoothquant_mappings(model, torch.zeros(2, 4))


def test_expressions_match_no_other_layer_of_the_model() -> None:
    model = decoder()
    model.layers[0].self_attn.q_proj_lora = nn.Linear(2, 2)
    model.draft_layers = nn.ModuleList([nn.ModuleDict({"up_proj": nn.Linear(2, 2)})])
    names = Layers(model).names
    mappings = awq_mappings(model, texts(), symmetries=symmetries_of_a_decoder())
    found = [sets_of(model, m["smooth_layer"], m["balance_layers"]) for m in mappings]
    touched = {name for sets in found for smooth, balance in sets for name in (smooth, *balance)}
    assert {"layers.0.self_attn.q_proj_lora", "draft_layers.0.up_proj"} <= set(names) - touched
