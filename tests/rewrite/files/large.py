"""A checkpoint of 1e9 parameters, folded and turned: ``python large.py make|rewrite FOLDER``; times and memory."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from neuralmechanics.rewrite import rotate
from neuralmechanics.rewrite.files import rewrite_checkpoint

SHARD = 1 << 28  # bytes, at most


def model() -> nn.Module:
    """1.01e9 parameters, none of them allocated."""
    transformers: Any = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=20, num_attention_heads=32, num_key_value_heads=4,
        vocab_size=32000, use_cache=False, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        hollow: nn.Module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return hollow.eval()


def make(folder: Path) -> None:
    """Random bfloat16 tensors in shards of at most 256 MB."""
    folder.mkdir()
    draw, names, part, size = torch.Generator().manual_seed(0), {}, {}, 0
    state = dict(model().state_dict())
    for k, (name, value) in enumerate(state.items()):
        part[name] = torch.randn(value.shape, generator=draw).mul_(0.02).add_(value.ndim == 1).bfloat16()
        size += part[name].nbytes
        if size > SHARD or k == len(state) - 1:
            file = f"model-{len(set(names.values())):05}.safetensors"
            save_file(part, folder / file, metadata={"format": "pt"})
            names |= dict.fromkeys(part, file)
            part, size = {}, 0
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def rewrite(folder: Path) -> dict[str, float]:
    """Seconds for the plan and for the files, and the greatest memory of this process in bytes."""
    hollow, started, worked = model(), time.monotonic(), time.process_time()
    plan = rotate(hollow, torch.zeros(1, 8, dtype=torch.long, device="meta"), prepare=True).plan
    planned = time.monotonic()
    report = rewrite_checkpoint(folder, folder.with_name("out"), plan, hollow)
    return {
        "parameters": sum(p.numel() for p in hollow.parameters()),
        "changed": len(report.changed),
        "plan_seconds": planned - started,
        "files_seconds": time.monotonic() - planned,
        "processor_seconds": time.process_time() - worked,
        "bytes_read": report.bytes_read,
        "bytes_written": report.bytes_written,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        print(json.dumps(rewrite(Path(sys.argv[2]))))
