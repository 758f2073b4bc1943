"""Smoothing maps as llm-compressor has them for each architecture: smooth layer, then the layers that balance it."""

from __future__ import annotations

_ATTENTION = ("re:.*input_layernorm$", ["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"])
_OUTPUT = ("re:.*v_proj$", ["re:.*o_proj$"])
_MLP = ("re:.*post_attention_layernorm$", ["re:.*gate_proj$", "re:.*up_proj$"])
_DOWN = ("re:.*up_proj$", ["re:.*down_proj$"])
_GEMMA_MLP = ("re:.*pre_feedforward_layernorm$", ["re:.*gate_proj$", "re:.*up_proj$"])
_LATENT = [
    ("re:.*input_layernorm$", ["re:.*(q|q_a)_proj$", "re:.*kv_a_proj_with_mqa$"]),
    ("re:.*q_a_layernorm$", ["re:.*q_b_proj$"]),
    ("re:.*kv_a_layernorm$", ["re:.*kv_b_proj$"]),
]
_DEFAULT = [_ATTENTION, _OUTPUT, _MLP, _DOWN]

AWQ: dict[str, list[tuple[str, list[str]]]] = {
    "llama": _DEFAULT,
    "qwen2": _DEFAULT,
    "qwen3": _DEFAULT,
    "mistral": _DEFAULT,
    "granite": _DEFAULT,
    "phi3": [
        ("re:.*input_layernorm$", ["re:.*qkv_proj$"]),
        ("re:.*qkv_proj$", ["re:.*o_proj$"]),
        ("re:.*post_attention_layernorm$", ["re:.*gate_up_proj$"]),
        ("re:.*gate_up_proj$", ["re:.*down_proj$"]),
    ],
    "gemma2": [_ATTENTION, _OUTPUT, _GEMMA_MLP, _DOWN],
    "gemma3": [_OUTPUT, _GEMMA_MLP, _DOWN],
    "cohere": [
        ("re:.*input_layernorm$", [
            "re:.*self_attn.q_proj$", "re:.*self_attn.k_proj$", "re:.*self_attn.v_proj$", "re:.*mlp.gate_proj$",
            "re:.*mlp.up_proj$",
        ]),
        _OUTPUT,
        _DOWN,
    ],
    "bloom": [
        ("re:.*input_layernorm$", ["re:.*query_key_value$"]),
        ("re:.*post_attention_layernorm$", ["re:.*dense_h_to_4h$"]),
    ],
    "glm4-moe-lite": [*_LATENT, _MLP, _DOWN],
    # The toolkit's own entry for this architecture is that of the family's first version, without a norm of outputs.
    "olmo2": [_OUTPUT, _DOWN],
}  # fmt: skip

SMOOTHQUANT: dict[str, list[tuple[str, list[str]]]] = {
    "llama": [_ATTENTION, _MLP],
    "qwen2": [_ATTENTION, _MLP],
    "qwen3": [_ATTENTION, _MLP],
    "mistral": [_ATTENTION, _MLP],
    "mixtral": [_ATTENTION],
    "qwen2-moe": [_ATTENTION],
    "gemma2": [_ATTENTION, _MLP],
    "phi3": [("re:.*input_layernorm$", ["re:.*qkv_proj$"]), ("re:.*post_attention_layernorm$", ["re:.*gate_up_proj$"])],
    "bloom": AWQ["bloom"],
    "deepseek-v3": [("re:.*input_layernorm$", ["re:.*q(_a)?_proj$", "re:.*kv_a_proj_with_mqa"])],
}
