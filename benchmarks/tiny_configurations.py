"""Configurations of Transformers made small: tiny ones to search, and smallest ones of which a null space is measured.

In the smallest, more words than an inner map has numbers enter, and classifiers tell more classes than the stream has
channels: what reads them then meets generic vectors, and no direction is free for want of different data.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ATTEMPTS", "IMAGE", "WORDS", "built"]

Size = int | tuple[int, int]  # in the tiny and in the smallest configuration
WORDS, IMAGE = 37, 32
FEWEST_WORDS, CLASSES = 31, 9


def _each(size: Size, *names: str) -> dict[str, Size]:
    return dict.fromkeys(names, size)


SIZES: dict[str, Size] = {
    **_each((16, 8), "hidden_size", "d_model", "n_embd", "dim", "embedding_size", "encoder_hidden_dim", "emb_dim"),
    **_each((16, 8), "word_embed_proj_dim", "hidden_dim", "width", "lru_width", "attention_hidden_size", "d_latents"),
    **_each((16, 8), "embedding_dim", "input_embedding_size", "output_embedding_size", "cross_attention_hidden_size"),
    **_each((16, 8), "pronunciation_embed_dim", "shape_embed_dim", "entity_emb_size", "qk_channels"),
    **_each(2, "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "layers"),
    **_each(2, "num_decoder_layers", "num_encoder_layers", "depth", "num_mem_blocks", "num_blocks"),
    **_each(1, "num_layers_per_stack"),
    **_each(2, "num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads", "heads"),
    **_each(2, "decoder_attention_heads", "num_key_value_heads", "num_kv_heads", "attention_heads", "index_n_heads"),
    **_each(2, "num_encoder_attention_heads", "num_decoder_attention_heads", "swa_num_attention_heads"),
    **_each(2, "swa_num_key_value_heads", "linear_num_heads", "linear_num_key_heads", "linear_num_value_heads"),
    **_each((24, 6), "intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff", "n_inner", "dff"),
    **_each((24, 6), "d_inner", "dim_ff", "shared_intermediate_size", "dense_intermediate_size"),
    **_each((24, 6), "intermediate_size_mlp", "feed_forward_size"),
    **_each((12, 4), "moe_intermediate_size", "shared_expert_intermediate_size", "mlp_dim", "ffn_hidden_size"),
    **_each((12, 4), "shared_experts_intermediate_size", "expert_ffn_hidden_size", "router_hidden_size"),
    **_each((12, 4), "moe_shared_expert_intermediate_size"),
    **_each((4, 2), "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    **_each(2, "num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"),
    **_each(1, "n_group", "topk_group", "n_shared_experts", "zero_expert_num"),
    **_each((8, 4), "head_dim", "d_kv", "kv_channels", "attention_head_dim", "qk_nope_head_dim", "v_head_dim"),
    **_each(
        (8, 4), "d_head", "dim_head", "swa_head_dim", "linear_head_dim", "linear_key_head_dim", "attention_head_size"
    ),
    **_each((8, 4), "linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "q_lora_rank", "kv_lora_rank"),
    **_each((8, 4), "o_lora_rank", "num_latents", "hidden_size_per_layer_input", "laurel_rank"),
    **_each(8, "index_head_dim"),
    **_each(4, "rotary_dim", "mamba_n_heads", "mamba_num_heads", "state_size", "mamba_d_state", "ssm_state_size"),
    **_each(4, "mamba_dt_rank", "time_step_rank", "gated_norm_rank", "d_rel", "mamba_chunk_size", "adapter_rank"),
    **_each(2, "n_groups", "mamba_n_groups", "num_codebooks"),
    **_each(3, "segment_types"),
    **_each((32, 16), "mamba_d_ssm"),
    **_each((32, 8), "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_source_positions"),
    **_each((32, 8), "max_target_positions", "max_2d_position_embeddings", "position_bias_num_buckets"),
    **_each((WORDS, FEWEST_WORDS), "vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size"),
    **_each((WORDS, 3), "type_vocab_size", "pronunciation_vocab_size", "shape_vocab_size", "entity_vocab_size"),
    **_each(2, "num_self_attends_per_block", "num_self_attention_heads", "num_cross_attention_heads"),
    **_each((IMAGE, 16), "image_size", "input_size", "sliding_window_size"),
    **_each(8, "patch_size"),
    **_each(4, "block_multiple_of"),
    **_each(1, "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
}

OF_TYPE: dict[str, dict[str, Any]] = {  # what a type needs beside; pairs as above, dots for configurations within
    "bailing_hybrid": {"n_group": 1, "topk_group": 1},
    "codegen": {"n_head": 4, "rotary_dim": (4, 2), "n_inner": (24, 6)},
    "cohere2_moe": {"vocab_size": WORDS},  # its first experts read nothing but words, and have the most parameters
    "convnextv2": {"num_stages": 2, "hidden_sizes": ([16, 24], [8, 12]), "depths": [1, 1]},
    "cpmant": {"prompt_types": 3, "prompt_length": 2},
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": (8.0, 0.7)},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": (4, 2), "num_experts_per_tok": 2, "n_shared_experts": 1},
    "esm": {"vocab_size": (WORDS, FEWEST_WORDS), "mask_token_id": 2},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1},
    "gemma3n_text": {
        "activation_sparsity_pattern": [0.0, 0.0],
        "num_kv_shared_layers": 0,
        "intermediate_size": ([24, 24], [6, 6]),
    },
    "gpt_neo": {"intermediate_size": (24, 6)},
    "gpt_oss": {"swiglu_limit": (7.0, 0.3)},  # else nothing is as large, and up to there the gate is a plain product
    "gptj": {"n_inner": (24, 6)},
    "inkling2_text": {"unpadded_vocab_size": (WORDS, FEWEST_WORDS), "rel_extent": 16},
    "inkling_text": {"unpadded_vocab_size": (WORDS, FEWEST_WORDS), "rel_extent": 16},
    "laguna": {"num_attention_heads_per_layer": [2, 2]},
    "layoutlmv3": {"coordinate_size": (2, 1), "shape_size": (4, 2)},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": (24, 12), "channel_shrink_ratio": 2},  # by six coordinates
    "mamba2": {"num_heads": 4, "chunk_size": 4},
    "mistral4": {"head_dim": (16, 8)},  # of which half are turned
    "mobilebert": {"true_hidden_size": (16, 8), "intra_bottleneck_size": (16, 8), "num_feedforward_networks": 1},
    "nemotron_h": {"chunk_size": 4},
    "phimoe": {"router_jitter_noise": 2.0},  # else all but the first choice are left out, and scores without effect
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "squeezebert": {"intermediate_size": (24, 8)},  # by its four groups
    "swin": {
        "embed_dim": (16, 8),
        "hidden_size": (32, 16),  # of the last stage
        "num_layers": 2,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": (4, 2),
    },
    "tapas": {"type_vocab_sizes": [3] * 7},
    "xlstm": {"ffn_round_up_to_multiple_of": 2, "mlstm_round_up_to_multiple_of": 2},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "hybrid", "hybrid"],
        "attention_hidden_size": (32, 16),
        "attention_head_dim": (16, 8),
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "hybrid_layer_ids": [1],
        "num_mem_blocks": 1,
        "n_mamba_heads": 4,
        "mamba_headdim": (8, 4),
        "mamba_ngroups": 2,
        "chunk_size": 4,
        "attention_hidden_size": (32, 16),
        "attention_head_dim": (16, 8),
    },
}

_IF_ABSENT = ("pad_token_id", "head_dim", "num_key_value_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_blocks", "encoder_layers", "decoder_layers")
ATTEMPTS = ("tiny", "tiny, own lists", "two layers")


def _shrunk(config: Any, lists: bool, smallest: bool = False, depth: int = 0) -> None:
    """Known sizes of a configuration set small, in place; nested configurations too."""
    for name, pair in SIZES.items():
        value, size = vars(config).get(name, "absent"), _chosen(pair, smallest)
        if (value is None and name in _IF_ABSENT) or (type(value) is int and value > size):
            setattr(config, name, size)
    _rotary_heads(config, smallest)
    for name, value in list(vars(config).items()):
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)
        elif isinstance(value, list) and name.endswith("_types"):
            setattr(config, name, [value[0], value[-1]] if len(value) > 1 else value)
        elif lists and isinstance(value, list) and value and all(type(v) is int for v in value):
            setattr(config, name, _short(name, value))
        elif depth < 2 and hasattr(value, "to_dict") and hasattr(value, "model_type"):
            _shrunk(value, lists, smallest, depth + 1)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    if smallest and depth == 0 and hasattr(config, "num_labels"):
        config.num_labels = CLASSES
    for name, pair in OF_TYPE.get(config.model_type, {}).items():
        *within, last = name.split(".")
        holder = config
        for part in within:
            holder = getattr(holder, part)
        setattr(holder, last, _chosen(pair, smallest))


def _chosen(pair: Any, smallest: bool) -> Any:
    return pair[smallest] if isinstance(pair, tuple) else pair


def _rotary_heads(config: Any, smallest: bool) -> None:
    """Heads of two parts, one turned and one not: both as wide, and what is derived from them."""
    if "qk_rope_head_dim" not in vars(config):
        return
    config.qk_rope_head_dim = config.head_dim = 4 if smallest else 8
    if "qk_head_dim" in vars(config) and "qk_nope_head_dim" in vars(config):
        config.qk_head_dim = config.qk_rope_head_dim + config.qk_nope_head_dim


def _short(name: str, sizes: list[int]) -> list[int]:
    """Widths an eighth as large, at least eight; one layer a stage."""
    if "depth" in name or "layers" in name:
        return [1 for _ in sizes]
    return [max(8, n // 8) for n in sizes] if min(sizes) >= 32 and ("size" in name or "dim" in name) else sizes


def built(name: str, attempt: str, smallest: bool = False) -> Any:
    """The model with small sizes, or (where it does not take them) as published with two layers, without memory."""
    import torch
    import transformers

    cls = getattr(transformers, name)
    config = cls.config_class()
    if attempt != "two layers":
        _shrunk(config, attempt == "tiny", smallest)
    else:
        if "layer_types" not in vars(config):
            for entry in _LAYERS:
                if type(getattr(config, entry, None)) is int:
                    setattr(config, entry, 2)
    torch.manual_seed(0)
    with torch.device("meta" if attempt == "two layers" else "cpu"):
        return cls(config).train()
