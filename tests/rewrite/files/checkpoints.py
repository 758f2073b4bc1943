"""Checkpoints as they lie on disks: shards with an index, a configuration, a tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

INDEX = "model.safetensors.index.json"


def on_meta(model: nn.Module) -> nn.Module:
    """The same model without weights, ties kept."""
    import copy

    known = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    known |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, dict(known))


def save_shards(
    folder: Path, state: Mapping[str, Tensor], shards: int = 3, config: Mapping[str, object] | None = None
) -> Path:
    """The state in shards, with an index and other files beside."""
    folder.mkdir()
    names, held = list(state), {}
    for k in range(shards):
        part = {name: state[name].contiguous().clone() for name in names[k::shards]}
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt", "shard": str(k)})
        held |= dict.fromkeys(part, file)
    size = sum(state[name].numel() * state[name].element_size() for name in names)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(held.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "none"}))
    (folder / "tokens").mkdir()
    (folder / "tokens" / "vocabulary.txt").write_bytes(b"a\r\nb\x00c")
    return folder


def load_all(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, or of a file."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}


def digests(root: Path) -> dict[str, str]:
    """All that is below a folder, by content."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
