"""Small causal language models of the families that quantisation toolkits have maps for."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

_COMMON = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "use_cache": False,
    "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 32,
}  # fmt: skip
_GATED = {"intermediate_size": 24, "num_key_value_heads": 4}
_LATENT = {
    "q_lora_rank": 6, "kv_lora_rank": 6, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
    "moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "n_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip
_CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GATED),
    "llama-grouped": ("LlamaConfig", _GATED | {"num_key_value_heads": 2}),
    "llama-tied": ("LlamaConfig", _GATED | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", _GATED | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", _GATED | {"head_dim": 4}),
    "qwen2-moe": ("Qwen2MoeConfig", _GATED | {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 12,
    }),
    "mistral": ("MistralConfig", _GATED | {"head_dim": 4}),
    "mixtral": ("MixtralConfig", _GATED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma": ("GemmaConfig", _GATED | {"head_dim": 4}),
    "gemma2": ("Gemma2Config", _GATED | {"head_dim": 4, "query_pre_attn_scalar": 4}),
    "gemma3": ("Gemma3TextConfig", _GATED | {"head_dim": 4, "query_pre_attn_scalar": 4}),
    "gpt2": ("GPT2Config", {"n_inner": 24}),
    "phi": ("PhiConfig", _GATED),
    "phi3": ("Phi3Config", _GATED),
    "falcon": ("FalconConfig", {"ffn_hidden_size": 24, "alibi": False}),
    "opt": ("OPTConfig", {"ffn_dim": 24, "word_embed_proj_dim": 16}),
    "bloom": ("BloomConfig", {"n_head": 4}),
    "cohere": ("CohereConfig", _GATED),
    "olmo2": ("Olmo2Config", _GATED),
    "granite": ("GraniteConfig", _GATED),
    "deepseek-v3": ("DeepseekV3Config", _GATED | _LATENT),
    "glm4-moe-lite": ("Glm4MoeLiteConfig", _GATED | _LATENT),
}  # fmt: skip
NAMES = tuple(_CONFIGURATIONS)


def language_model(name: str, *, meta: bool = True) -> nn.Module:
    """The model of that name, without weights unless they are asked for."""
    transformers: Any = importlib.import_module("transformers")
    kind, settings = _CONFIGURATIONS[name]
    config = getattr(transformers, kind)(**_COMMON | settings)
    with torch.device("meta" if meta else "cpu"):
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model.eval()


def tokens(*, meta: bool = True) -> torch.Tensor:
    """Two short texts."""
    return torch.zeros(2, 6, dtype=torch.long, device="meta") if meta else torch.arange(12).reshape(2, 6)
