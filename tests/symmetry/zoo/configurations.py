"""Transformers models from tiny configurations, random weights, nothing downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network import prepared
from .architectures import Case, full

_WORDS = 11
_SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": _WORDS}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def predict_words(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(**{key: value for key, value in batch.items() if key != "targets"}).logits
    return functional.cross_entropy(logits.flatten(0, -2), batch["targets"].flatten())


def _words(model: nn.Module, decoder: bool = False, length: int = 5) -> Case:
    generator = torch.Generator().manual_seed(0)
    batch = {"input_ids": torch.randint(1, _WORDS, (3, length), generator=generator)}
    if decoder:
        batch["decoder_input_ids"] = torch.randint(1, _WORDS, (3, length), generator=generator)
    batch["targets"] = torch.randint(1, _WORDS, (3, length), generator=generator)
    return prepared(model), batch, predict_words


def _build(model: str, config: str, **settings: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    configuration = getattr(transformers, config)(**settings)
    if hasattr(configuration, "use_cache"):
        configuration.use_cache = False
    return getattr(transformers, model)(configuration)


@full("hf-bert")
def bert() -> Case:
    return _words(
        _build(
            "BertForMaskedLM", "BertConfig", **_SMALL, **_NO_DROPOUT, intermediate_size=12, max_position_embeddings=8
        )
    )


@full("hf-gpt2")
def gpt2() -> Case:
    settings = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": _WORDS, "n_positions": 8}
    return _words(_build("GPT2LMHeadModel", "GPT2Config", **settings, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


@full("hf-llama")
def llama() -> Case:
    return _words(_build("LlamaForCausalLM", "LlamaConfig", **_SMALL, num_key_value_heads=1, intermediate_size=12))


@full("hf-qwen3")
def qwen3() -> Case:
    return _words(
        _build(
            "Qwen3ForCausalLM", "Qwen3Config", **_SMALL, num_key_value_heads=1, intermediate_size=12, head_dim=4,
            tie_word_embeddings=True,
        )
    )  # fmt: skip


@full("hf-t5")
def t5() -> Case:
    settings = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2, "vocab_size": _WORDS}
    return _words(_build("T5ForConditionalGeneration", "T5Config", **settings, dropout_rate=0.0), decoder=True)


@full("hf-mixtral")
def mixtral() -> Case:
    return _words(
        _build(
            "MixtralForCausalLM", "MixtralConfig", **_SMALL, num_key_value_heads=1, intermediate_size=6,
            num_local_experts=3, num_experts_per_tok=2, experts_implementation="eager",
        )
    )  # fmt: skip


@full("hf-mamba")
def mamba() -> Case:
    settings = {"hidden_size": 6, "num_hidden_layers": 2, "vocab_size": _WORDS, "state_size": 3}
    return _words(_build("MambaForCausalLM", "MambaConfig", **settings, time_step_rank=2, expand=2), length=4)


@full("hf-whisper")
def whisper() -> Case:
    settings = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": _WORDS, "num_mel_bins": 3}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 10, "decoder_ffn_dim": 10}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = _build(
        "WhisperForConditionalGeneration", "WhisperConfig", **settings, **heads, **special, max_source_positions=4,
        max_target_positions=8, dropout=0.0, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input_features": torch.randn(3, 3, 8, generator=generator, dtype=torch.float64),
        "decoder_input_ids": torch.randint(1, _WORDS, (3, 5), generator=generator),
        "targets": torch.randint(1, _WORDS, (3, 5), generator=generator),
    }
    return prepared(model), batch, predict_words


@full("hf-vit")
def vit() -> Case:
    settings = {key: value for key, value in _SMALL.items() if key != "vocab_size"}
    model = _build(
        "ViTForImageClassification", "ViTConfig", **settings, **_NO_DROPOUT, intermediate_size=12, image_size=8,
        patch_size=4, num_labels=5,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batch = {
        "pixel_values": torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64),
        "targets": torch.randint(5, (3,), generator=generator),
    }
    return prepared(model), batch, predict_words
