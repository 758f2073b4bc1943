"""A whole state dict from a file, or from a folder of shards with their index."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from neuralmechanics.files.weights import read_weights, single_file
from neuralmechanics.rewrite.files.checkpoint import open_checkpoint

__all__ = ["read_state"]


def read_state(path: Path) -> dict[str, Tensor]:
    """Every tensor at a path, in memory; ``ValueError`` names what cannot be read, a shard that is missing included."""
    if not path.exists():
        raise ValueError(f"no checkpoint at {str(path)!r}; give a file of weights, or a folder with one or with shards")
    if not path.is_dir() or not any(path.glob("*.safetensors*")):
        return read_weights(single_file(path))
    out: dict[str, Tensor] = {}
    for shard in open_checkpoint(path).shards:
        out |= read_weights(shard.path)
    return out
