"""Weights from files that cannot run code: safetensors, or torch checkpoints read with `weights_only=True`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_WRAPPERS = ("model", "state_dict", "model_state_dict", "module")


def restore_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights at `path` into `model`, in place; every name and shape must agree.

    Reads `.safetensors`, and anything else as a torch checkpoint with `weights_only=True`; a checkpoint that wraps
    its state under `model`, `state_dict`, `model_state_dict` or `module` is unwrapped. Raises `ValueError` in one line.
    """
    weights = read_weights(path)
    target = model.state_dict()
    missing = sorted(set(target) - set(weights))
    extra = sorted(set(weights) - set(target))
    if missing or extra:
        raise ValueError(f"{str(path)!r} does not fit the model: missing {missing[:3]}, not in the model {extra[:3]}")
    for name, tensor in target.items():
        if weights[name].shape != tensor.shape:
            there, here = tuple(weights[name].shape), tuple(tensor.shape)
            raise ValueError(f"{str(path)!r} does not fit the model: {name} is {there} there, {here} here")
    model.load_state_dict(dict(weights))


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Named tensors of a weights file, on the CPU."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no weights file {str(path)!r}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{str(path)!r} is not a readable safetensors file: {error}") from None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{str(path)!r} is not a weights-only checkpoint: {reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{str(path)!r} holds no mapping of named tensors")
    return content
