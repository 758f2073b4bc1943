"""A state dict in one file: safetensors, or what ``torch.save`` writes; read without running anything in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["load_tensors", "save_tensors", "single_file"]

SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")


def single_file(path: Path) -> Path:
    """The file itself, or the only file of weights in a folder; ``ValueError`` where there is none, or more."""
    if path.is_file():
        if path.suffix not in (*SAFE, *PICKLED):
            raise ValueError(f"{path} is no file of weights: its name must end in {', '.join((*SAFE, *PICKLED))}")
        return path
    if not path.is_dir():
        raise ValueError(f"no weights at {path}: give a file, or a folder that holds one")
    for suffixes in (SAFE, PICKLED):
        found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in suffixes)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{path} holds {len(found)} files of weights ({found[0].name}, …); give one of them")
    raise ValueError(f"{path} holds no file of weights ({', '.join((*SAFE, *PICKLED))})")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; ``ValueError`` for a file that holds anything else."""
    if path.suffix in SAFE:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from None
    import pickle

    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no state dict that can be read without running code: {line}") from None
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__} of more than tensors; save model.state_dict() alone")
    return dict(found)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Written beside its place, made durable, then put there by one rename; ``ValueError`` where a file is already."""
    if path.exists():
        raise ValueError(f"{path} exists already; give another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    own = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    try:
        if path.suffix in SAFE:
            from safetensors.torch import save_file

            save_file(own, part, metadata={"format": "pt"})
        else:
            import torch

            torch.save(own, part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
