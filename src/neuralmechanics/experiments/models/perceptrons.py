"""Networks of linear maps: logistic regression and multilayer perceptrons."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

from neuralmechanics.experiments.models.layers import linear_block


def logistic(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """Softmax regression: one linear map from pixels to logits."""
    if batch_norm:
        raise ValueError("logistic has no batch-norm variant; use 'logistic' or 'fc-bn'")
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(prod(input_shape), classes)))


def mlp(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """Two hidden ReLU layers of 64."""
    return perceptron(input_shape, classes, hidden=(64, 64), batch_norm=batch_norm)


def fc(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """Five hidden ReLU layers of 100 (the reference code's fully connected network)."""
    return perceptron(input_shape, classes, hidden=(100,) * 5, batch_norm=batch_norm)


def perceptron(input_shape: tuple[int, ...], classes: int, *, hidden: tuple[int, ...], batch_norm: bool) -> nn.Module:
    """ReLU layers of the widths `hidden`, each with bias and optional batch norm, and a linear head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = prod(input_shape)
    for index, following in enumerate(hidden, start=1):
        layers.update(linear_block(width, following, index, batch_norm=batch_norm))
        width = following
    layers["head"] = nn.Linear(width, classes)
    return nn.Sequential(layers)
