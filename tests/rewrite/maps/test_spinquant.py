"""The map for rotations: what it names can be turned, folded norms first, and nothing else is matched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from neuralmechanics.rewrite.maps import spinquant_mapping

from .applying import rotate_all
from .networks import Attention, decoder, symmetries_of_a_decoder, texts

LAYER = r"re:layers\.\d+\."


def test_a_decoder_has_the_map_that_people_write() -> None:
    found = spinquant_mapping(decoder(), texts(), symmetries=symmetries_of_a_decoder())
    attention, mlp = LAYER + r"self_attn\.", LAYER + r"mlp\."
    assert found.mapping == {
        "embedding": "embed_tokens",
        "attn": LAYER + "self_attn$",
        "attn_q": attention + "q_proj$",
        "attn_k": attention + "k_proj$",
        "attn_v": attention + "v_proj$",
        "attn_o": attention + "o_proj$",
        "attn_head_dim": 4,
        "mlp_in": [mlp + "gate_proj$", mlp + "up_proj$"],
        "mlp_out": [mlp + "down_proj$"],
        "lm_head": "lm_head",
    }
    assert found.norm_mappings == (
        {"norm": LAYER + "input_layernorm$", "linears": [attention + f"{x}_proj$" for x in "qkv"]},
        {"norm": LAYER + "post_attention_layernorm$", "linears": [mlp + "gate_proj$", mlp + "up_proj$"]},
        {"norm": "norm", "linears": ["lm_head"]},
    )
    assert "centres the embedding" in found.notes[0]


@pytest.mark.parametrize(
    "settings",
    [{}, *(pytest.param(s, marks=pytest.mark.slow) for s in ({"tied": True, "bias": True}, {"experts": (0, 1)}))],
)
def test_turning_what_a_map_names_leaves_the_function_unchanged(settings: dict) -> None:
    model = decoder(**settings)
    given = {} if settings else {"symmetries": symmetries_of_a_decoder()}
    tied = model.state_dict()
    found = spinquant_mapping(model, texts(), **given)
    assert all(torch.equal(tied[name], value) for name, value in model.state_dict().items())
    turned = copy.deepcopy(model)
    rotate_all(turned, found.mapping, found.norm_mappings, torch.Generator().manual_seed(2))
    before, after = model(texts()), turned(texts())
    assert not torch.allclose(turned.lm_head.weight, model.lm_head.weight)
    assert (after - before).abs().max() < 1e-12 * before.abs().max()


class Centred(nn.Module):
    """A stream that layer norms read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attn = nn.Embedding(11, 8), Attention()
        self.one, self.two, self.head = nn.LayerNorm(8), nn.LayerNorm(8), nn.Linear(8, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.head(self.two(x + self.attn(self.one(x))))


def _gained() -> nn.Module:
    """A gain after the block multiplies what enters the stream."""
    model = decoder(layers=1)
    block = model.layers[0]
    block.scale = nn.Parameter(torch.rand(8).double())
    block.forward = lambda x: x + block.scale * block.self_attn(block.input_layernorm(x))
    return model


REFUSED = {
    "layer-norms": (Centred, "layer norms read embed.weight"),
    "no-embedding": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "no embedding writes"),
    "gain": (_gained, "layers.0.scale multiplies the stream and is no norm's weight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_turned_is_refused_with_the_reason(name: str) -> None:
    make, reason = REFUSED[name]
    batch = torch.zeros(2, 4) if name == "no-embedding" else texts()
    with pytest.raises(ValueError, match=reason):
        spinquant_mapping(make(), batch)
