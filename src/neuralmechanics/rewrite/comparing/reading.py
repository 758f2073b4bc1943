"""Checkpoints in files: one safetensors file, or all of a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

__all__ = ["read_checkpoint", "write_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of all such files in a folder; ``ValueError`` names what cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = Path(path)
    if not place.exists():
        raise ValueError(f"no checkpoint at {str(place)!r}; give a safetensors file, or a folder with some")
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise ValueError(
            f"no *.safetensors in the folder {str(place)!r}; give a safetensors file, or a folder with some"
        )
    out: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{str(file)!r} is no safetensors file: {error}") from None
        twice = next((name for name in tensors if name in out), None)
        if twice is not None:
            raise ValueError(f"tensor {twice!r} is in two files of {str(place)!r}; keep one of them")
        out |= tensors
    return out


def write_checkpoint(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, which appears under its name when it is whole."""
    from safetensors.torch import save_file

    place = Path(path)
    partial = place.with_name(f".{place.name}.partial")
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, partial)
    os.replace(partial, place)
