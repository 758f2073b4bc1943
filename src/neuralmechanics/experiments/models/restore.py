"""Weights from files that cannot run code: safetensors, or torch checkpoints read with `weights_only=True`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from neuralmechanics.files.weights import misfit, read_weights


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
        if wrong := misfit(weights[name], tensor):
            raise ValueError(f"{str(path)!r} does not fit the model: {name} {wrong}")
        # Statistics of a norm that has not run may be anything; weights may not.
        if name in parameters and not bool(torch.isfinite(weights[name]).all()):
            raise ValueError(
                f"{str(path)!r} is no network to train: {name} holds nan or infinite values; give other weights"
            )
    model.load_state_dict(dict(weights))
