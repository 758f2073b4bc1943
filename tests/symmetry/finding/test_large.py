"""Published shapes on the meta device: dimensions known in closed form, and what one search may cost."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from neuralmechanics import Symmetries, find_symmetries

LAYERS, HEADS, WIDTH = 12, 12, 64


def found(config: object, kind: str) -> Symmetries:
    """The symmetries of a transformers model that is never allocated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        with torch.device("meta"):
            model: nn.Module = getattr(transformers, kind)(config)
    tokens = torch.zeros(1, 8, dtype=torch.long, device="meta")
    return find_symmetries(model, tokens, lambda m, batch: m(batch, use_cache=False).logits)


def linear_dimension(symmetries: Symmetries) -> int:
    """Of the blocks in heads, without rotations of the stream."""
    return sum(family.size for family in symmetries if family.kind == "linear" and family.charges)


def test_gpt2_small_has_a_general_linear_group_for_every_head_twice() -> None:
    from transformers import GPT2Config

    symmetries = found(GPT2Config(resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0), "GPT2LMHeadModel")
    assert not symmetries.unknown
    assert linear_dimension(symmetries) == LAYERS * HEADS * 2 * WIDTH**2 == 1_179_648
    assert symmetries.count()["linear"] == LAYERS * HEADS * 2 * (WIDTH * (WIDTH + 1) // 2)


def test_rotary_embedding_leaves_a_complex_factor_for_each_frequency_of_a_head() -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=HEADS * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=3072
    )
    symmetries = found(config, "LlamaForCausalLM")
    assert not symmetries.unknown
    values, rotated = LAYERS * HEADS * WIDTH**2, LAYERS * HEADS * WIDTH // 2
    assert linear_dimension(symmetries) == values + 2 * rotated == 599_040
    assert symmetries.count()["linear"] == LAYERS * HEADS * (WIDTH * (WIDTH + 1) // 2) + rotated
    stream = HEADS * WIDTH
    assert [f.size for f in symmetries if f.kind == "linear" and not f.charges] == [
        stream * (stream - 1) // 2
    ]  # of the whole stream
