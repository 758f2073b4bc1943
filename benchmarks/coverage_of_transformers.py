"""Every architecture of Transformers, tiny and with random weights, through ``find_symmetries``: what has no rule yet.

``python benchmarks/coverage_of_transformers.py [architecture …]`` prints one line an architecture (seconds, charges by
kind, operations without a rule or the exception) and a summary. Nothing is downloaded. Each architecture runs in a
process of its own, so that one that hangs costs its time limit only.
"""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

HEADS = ("causal_lm", "masked_lm", "sequence_classification", "image_classification")
WORDS, LENGTH, BATCH, IMAGE = 37, 6, 2, 32
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "encoder_hidden_dim", "emb_dim"), 16),
    **dict.fromkeys(("word_embed_proj_dim", "hidden_dim", "width", "lru_width", "attention_hidden_size"), 16),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers", "layers", "depth", "num_mem_blocks"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads", "heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "num_key_value_heads", "num_kv_heads", "attention_heads"), 2),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff", "n_inner"), 24),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mlp_dim", "ffn_hidden_size"), 12),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "attention_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("rotary_dim",), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_source_positions"), 32),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "type_vocab_size"), WORDS),
    **dict.fromkeys(("d_latents",), 16),  # Perceiver's stream
    **dict.fromkeys(("num_latents",), 8),
    **dict.fromkeys(("num_self_attends_per_block", "num_self_attention_heads", "num_cross_attention_heads"), 2),
    **dict.fromkeys(("image_size",), IMAGE),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("state_size", "mamba_d_state"), 4),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
}  # fmt: skip


def architectures() -> list[tuple[str, str, str]]:
    """(model type, head, class) for each type with a head that takes tokens or images, the first of ``HEADS``."""
    from transformers.models.auto import modeling_auto

    tables = {head: getattr(modeling_auto, f"MODEL_FOR_{head.upper()}_MAPPING_NAMES") for head in HEADS}
    found = []
    for kind in modeling_auto.CONFIG_MAPPING_NAMES if hasattr(modeling_auto, "CONFIG_MAPPING_NAMES") else _kinds():
        head = next((h for h in HEADS if kind in tables[h]), None)
        if head is not None:
            name = tables[head][kind]
            found.append((kind, head, name if isinstance(name, str) else name[0]))
    return found


def _kinds() -> list[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return list(CONFIG_MAPPING_NAMES)


def _shrunk(config: Any, lists: bool, depth: int = 0) -> None:
    """Known sizes of a configuration set small, in place; nested configurations too."""
    for name, size in SIZES.items():
        value = vars(config).get(name, "absent")
        absent = value is None and name in ("pad_token_id", "head_dim", "num_key_value_heads")
        if absent or (type(value) is int and value > size):
            setattr(config, name, size)
    if "qk_rope_head_dim" in vars(config):
        config.qk_rope_head_dim = config.head_dim = 8
    for name, value in list(vars(config).items()):
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)
        elif isinstance(value, list) and name.endswith("_types"):
            setattr(config, name, [value[0], value[-1]] if len(value) > 1 else value)
        elif lists and isinstance(value, list) and value and all(type(v) is int for v in value):
            setattr(config, name, _short(name, value))
        elif depth < 2 and hasattr(value, "to_dict") and hasattr(value, "model_type"):
            _shrunk(value, lists, depth + 1)
    if hasattr(config, "use_cache"):
        config.use_cache = False


def _short(name: str, sizes: list[int]) -> list[int]:
    """Widths an eighth as large, at least eight; one layer a stage."""
    if "depth" in name or "layers" in name:
        return [1 for _ in sizes]
    return [max(8, n // 8) for n in sizes] if min(sizes) >= 32 and ("size" in name or "dim" in name) else sizes


LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_blocks", "encoder_layers", "decoder_layers")
ATTEMPTS = ("tiny", "tiny, own lists", "two layers")


def built(name: str, attempt: str) -> Any:
    """The model with small sizes, or (where it does not take them) as published with two layers, without memory."""
    import torch
    import transformers

    cls = getattr(transformers, name)
    config = cls.config_class()
    if attempt != "two layers":
        _shrunk(config, attempt == "tiny")
    else:
        if "layer_types" not in vars(config):
            for entry in LAYERS:
                if type(getattr(config, entry, None)) is int:
                    setattr(config, entry, 2)
    torch.manual_seed(0)
    with torch.device("meta" if attempt == "two layers" else "cpu"):
        return cls(config).train()


def batch_for(model: Any, head: str, device: str) -> dict[str, Any]:
    """Random tokens or pixels, under the names that the model's ``forward`` takes."""
    import torch

    taken = inspect.signature(model.forward).parameters
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    if head == "image_classification" or (model.main_input_name == "pixel_values" and "input_ids" not in taken):
        vision = getattr(model.config, "vision_config", model.config)
        size = getattr(vision, "image_size", IMAGE) or IMAGE
        size = size if isinstance(size, int) else size[0]
        channels = getattr(vision, "num_channels", 3)
        batch = {"pixel_values": torch.randn(BATCH, channels, size, size)}
    else:
        words = min(getattr(config, "vocab_size", WORDS) or WORDS, WORDS)
        batch = {"input_ids": torch.randint(2, words, (BATCH, LENGTH))}
        if "decoder_input_ids" in taken:
            batch["decoder_input_ids"] = torch.randint(2, words, (BATCH, LENGTH))
        if "bbox" in taken:
            batch["bbox"] = torch.zeros(BATCH, LENGTH, 4, dtype=torch.long)
        if head == "sequence_classification" and model.config.eos_token_id is not None:
            eos = model.config.eos_token_id
            batch["input_ids"][:, -1] = eos if isinstance(eos, int) else eos[0]
    return {name: value.to(device) for name, value in batch.items()}


def logits_of(model: Any, batch: dict[str, Any]) -> Any:
    """What the loss would read."""
    settings = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    out = model(**batch, **settings)
    return out.logits if hasattr(out, "logits") else out[0]


def look(kind: str, head: str, name: str) -> dict[str, Any]:
    """One architecture: how long the search takes, what it finds, what has no rule."""
    import torch

    from neuralmechanics import find_symmetries

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reason = ""
    for attempt in ATTEMPTS:
        try:
            model = built(name, attempt)
            batch = batch_for(model, head, "cpu" if attempt != "two layers" else "meta")
            with torch.no_grad():
                logits_of(model, batch)
            break
        except Exception as error:  # noqa: BLE001 - the next attempt, or the reason in the table
            reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
    else:
        return {"state": "not built", "reason": reason}
    start = time.process_time()
    try:
        found = find_symmetries(model, batch, logits_of)
    except Exception as error:  # noqa: BLE001 - counted and printed
        text = str(error).splitlines()[0] if str(error) else ""
        return {"state": "exception", "reason": f"{type(error).__name__}: {text}"[:300], "first": reason}
    free = sum(c.status == "free" for c in found.coverage)
    return {
        "state": "found",
        "size": attempt,
        "first": reason,
        "seconds": round(time.process_time() - start, 1),
        "count": found.count(),
        "unknown": Counter(u.operation for u in found.unknown),
        "covered": sum(c.status == "covered" for c in found.coverage),
        "free": free,
        "route": "trace" if any("tracing" in note for note in found.notes) else "export",
    }


def _into(pipe: Any, case: tuple[str, str, str]) -> None:
    try:
        pipe.send(look(*case))
    except BaseException as error:  # noqa: BLE001 - a process must answer
        pipe.send({"state": "exception", "reason": f"{type(error).__name__}: {error}"[:300]})


def results(cases: list[tuple[str, str, str]], limit: float) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """One process an architecture, one after the other."""
    context = multiprocessing.get_context("fork")
    for case in cases:
        mine, theirs = context.Pipe()
        process = context.Process(target=_into, args=(theirs, case))
        process.start()
        theirs.close()
        try:
            answer = mine.recv() if mine.poll(limit) else {"state": "too slow", "reason": f"more than {limit:.0f} s"}
        except EOFError:
            answer = {"state": "exception", "reason": "the process died"}
        if process.is_alive():
            process.terminate()
        process.join()
        yield case, answer


def main() -> None:
    """Prints the table and the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="model types of transformers; all when none is given")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an architecture may take")
    parser.add_argument("--json", help="write everything to this file too")
    arguments = parser.parse_args()
    import torch
    import transformers

    import neuralmechanics  # noqa: F401 - loaded once, before the processes are forked

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cases = [case for case in architectures() if not arguments.kinds or case[0] in arguments.kinds]
    answers = {}
    for (kind, _, name), answer in results(cases, arguments.limit):
        answers[kind] = answer
        if answer["state"] == "found":
            blind = ", ".join(f"{op} ×{n}" for op, n in answer["unknown"].items()) or "-"
            kinds = " ".join(f"{k[:2]}={n}" for k, n in answer["count"].items())
            how = f"{answer['route']}, {answer['size']}"
            print(f"{kind:28s} {name:44s} {answer['seconds']:6.1f} s  {how:16s} {kinds}  {blind}")
        else:
            print(f"{kind:28s} {name:44s} {answer['state']}: {answer['reason']}")
        print(end="", flush=True)
    print(summary(answers, transformers.__version__))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(answers, file, indent=1)


def summary(answers: dict[str, dict[str, Any]], version: str) -> str:
    """Counts of states, and the operations that remain by the number of architectures that meet them."""
    states = Counter(a["state"] for a in answers.values())
    found = [a for a in answers.values() if a["state"] == "found"]
    remaining: Counter[str] = Counter(op for a in found for op in a["unknown"])
    whole = sum(not a["unknown"] for a in found)
    seconds = sorted(a["seconds"] for a in found)
    median = seconds[len(seconds) // 2] if seconds else 0.0
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, transformers {version}: {len(answers)} architectures; {dict(states)}",
        f"searched {len(found)}, without an unknown operation {whole}; "
        f"median {median} s, slowest {max(seconds, default=0)} s",
        "remaining: " + (", ".join(f"{op} ({n})" for op, n in remaining.most_common()) or "none"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
