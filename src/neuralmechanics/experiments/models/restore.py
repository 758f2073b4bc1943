"""Weights from files that cannot run code: safetensors, or torch checkpoints read with `weights_only=True`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from neuralmechanics.files import open_regular

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
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in target.items():
        _require_same(path, name, weights[name], tensor)
        # Statistics of a norm that has not run may be anything; weights may not.
        if name in parameters and not bool(torch.isfinite(weights[name]).all()):
            raise ValueError(
                f"{str(path)!r} is no network to train: {name} holds nan or infinite values; give other weights"
            )
    model.load_state_dict(dict(weights))


def _require_same(path: str | Path, name: str, there: Tensor, here: Tensor) -> None:
    if there.shape != here.shape:
        raise ValueError(
            f"{str(path)!r} does not fit the model: {name} is {tuple(there.shape)} there, {tuple(here.shape)} here"
        )
    if _kind(there) != _kind(here):
        raise ValueError(f"{str(path)!r} does not fit the model: {name} is {there.dtype} there, {here.dtype} here")


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "real"
    return "complex" if tensor.is_complex() else "truth" if tensor.dtype == torch.bool else "integer"


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Named tensors of a weights file, on the CPU."""
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = _safetensors(path) if path.suffix == ".safetensors" else _torch(file, path)
    except OSError as error:
        what = (
            f"no weights file {str(path)!r}" if isinstance(error, FileNotFoundError) else f"cannot read {str(path)!r}"
        )
        raise ValueError(f"{what}: {error.strerror}") from None
    # Wrappers may nest: a module in a model in a checkpoint.
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{str(path)!r} holds no mapping of named tensors")
    return content


def _torch(file: BinaryIO, path: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - what torch raises of a damaged archive is of any kind
        lines = str(error).splitlines()
        reason = "a name in it is no text" if isinstance(error, UnicodeDecodeError) else "".join(lines[:1]).strip()
        raise ValueError(f"{str(path)!r} is not a weights-only checkpoint: {reason or type(error).__name__}") from None


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is not a readable safetensors file: {error}") from None
    return weights
