"""Experts of published architectures: which are found with their routers, each held against the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from neuralmechanics import find_symmetries

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow

EXPERTS, VOCABULARY = 4, 40
ROUNDING = 1e-5  # in float32: torch multiplies groups of rows in no wider type
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "num_experts_per_tok": 2,
}


def made(name: str, **settings: Any) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(**SMALL | settings)
    model: nn.Module = getattr(transformers, f"{name}ForCausalLM")(config)
    return model.eval()


FOUND: dict[str, Callable[[], nn.Module]] = {
    "Mixtral": lambda: made("Mixtral", num_local_experts=EXPERTS),
    "Qwen2-MoE": lambda: made(
        "Qwen2Moe", num_experts=EXPERTS, moe_intermediate_size=12, shared_expert_intermediate_size=12
    ),
    "Qwen3-MoE": lambda: made("Qwen3Moe", num_experts=EXPERTS, moe_intermediate_size=12, head_dim=8),
    "OLMoE": lambda: made("Olmoe", num_experts=EXPERTS, eos_token_id=1),
    "GPT-OSS": lambda: made("GptOss", num_local_experts=EXPERTS, head_dim=8, layer_types=["full_attention"] * 2),
    "Granite-MoE": lambda: made("GraniteMoe", num_local_experts=EXPERTS),
}


@pytest.mark.parametrize("name", FOUND)
def test_experts_of_published_models_are_exchanged(name: str) -> None:
    """A space for the router of each layer, of which random elements leave the logits."""
    torch.manual_seed(0)
    model, tokens = FOUND[name](), torch.randint(0, VOCABULARY, (2, 7))
    spaces = [
        s
        for s in find_symmetries(model, {"input_ids": tokens}).spaces
        if s.width == EXPERTS and not s.copies and any("gate.weight" in n or "router" in n for n in s.parameters)
    ]
    assert len(spaces) == 2
    state = dict(model.state_dict())
    with torch.no_grad():
        before = functional_call(model, state, kwargs={"input_ids": tokens}).logits
        for space in spaces:
            order = torch.tensor([2, 0, 3, 1])
            after = functional_call(model, space.transform(state, order), kwargs={"input_ids": tokens}).logits
            assert (after - before).abs().max() < ROUNDING * before.abs().max()
            router = next(e.parameter for e in space.entries if "gate.weight" in e.parameter or "router" in e.parameter)
            alone = functional_call(model, state | {router: state[router][order]}, kwargs={"input_ids": tokens}).logits
            assert (alone - before).abs().max() > ROUNDING * before.abs().max()
