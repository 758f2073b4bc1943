"""Building blocks that the zoo shares: optional batch norm, size-aware pooling, the paper's initialisation."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def conv_block(inputs: int, outputs: int, index: int, *, batch_norm: bool) -> OrderedDict[str, nn.Module]:
    """3×3 convolution with bias, batch norm if asked for, ReLU; entries are numbered by `index`."""
    block: OrderedDict[str, nn.Module] = OrderedDict()
    block[f"conv{index}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
    if batch_norm:
        block[f"norm{index}"] = nn.BatchNorm2d(outputs)
    block[f"relu{index}"] = nn.ReLU()
    return block


def linear_block(inputs: int, outputs: int, index: int, *, batch_norm: bool) -> OrderedDict[str, nn.Module]:
    """Linear map with bias, batch norm if asked for, ReLU; entries are numbered by `index`."""
    block: OrderedDict[str, nn.Module] = OrderedDict()
    block[f"linear{index}"] = nn.Linear(inputs, outputs)
    if batch_norm:
        block[f"norm{index}"] = nn.BatchNorm1d(outputs)
    block[f"relu{index}"] = nn.ReLU()
    return block


# From this side length on a network is that of ImageNet: stems and classifiers as published for 224 pixels.
LARGE_INPUT = 128


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """(channels, height, width), or a `ValueError` that says that `model` wants images."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"{model} takes images: input_shape must be (channels, height, width), got {input_shape}")
    channels, height, width = input_shape
    return channels, height, width


def initialise_as_paper(model: nn.Module, *, linear: bool = True) -> None:
    """Kaiming normal (fan out) convolutions, N(0, 0.01²) linear maps if `linear`, norms 1/0, zero biases.

    In place, from torch's global random state. Source: reference code of arXiv:2012.04728 (theory 4).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and linear:
            nn.init.normal_(module.weight, 0.0, 0.01)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
