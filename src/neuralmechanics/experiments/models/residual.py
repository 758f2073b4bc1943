"""Residual networks: ResNet-18 … 152, wide bottleneck ResNets, and the pre-activation WideResNet-d-k."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from neuralmechanics.experiments.models.layers import LARGE_INPUT, image_shape

_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
RESNET_DEPTHS = (*_BASIC, *_BOTTLENECK)


class Residual(nn.Module):
    """y = ReLU(body(x) + shortcut(x)), or without the final ReLU for pre-activation bodies."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, *, final_relu: bool) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.relu = nn.ReLU() if final_relu else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.relu(self.body(inputs) + self.shortcut(inputs))
        return result


def resnet(
    input_shape: tuple[int, ...], classes: int, *, depth: int, batch_norm: bool, width_factor: int = 1
) -> nn.Module:
    """ResNet of He et al. 2016; `width_factor` widens the bottleneck's inner layers (Wide ResNet-50-2: 2).

    Inputs of 128 pixels and more meet the published stem of stride 2 and a max-pool (ResNet-50: 25,557,032 parameters
    at 1000 classes), smaller ones a 3×3 convolution, as in the reference code. There as here no convolution has a bias,
    with or without batch norm, and a basic block has no inner layer that `width_factor` could widen: Wide ResNet-18
    is ResNet-18.
    """
    channels, height, _ = image_shape(input_shape, f"resnet{depth}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if height >= LARGE_INPUT:
        layers["conv1"] = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    else:
        layers["conv1"] = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    layers["norm1"] = nn.BatchNorm2d(64) if batch_norm else nn.Identity()
    layers["relu1"] = nn.ReLU()
    if height >= LARGE_INPUT:
        layers["pool1"] = nn.MaxPool2d(3, 2, 1)
    # A bottleneck's output is four times as wide as its inner layers.
    expansion = 1 if depth in _BASIC else 4
    current = 64
    stages = _BASIC.get(depth) or _BOTTLENECK[depth]
    for stage, blocks in enumerate(stages):
        planes = 64 * 2**stage
        sequence = []
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = planes if depth in _BASIC else planes * width_factor
            sequence.append(_block(current, inner, planes * expansion, stride, batch_norm, basic=depth in _BASIC))
            current = planes * expansion
        layers[f"stage{stage + 1}"] = nn.Sequential(*sequence)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(current, classes)
    return nn.Sequential(layers)


def _block(inputs: int, inner: int, outputs: int, stride: int, batch_norm: bool, *, basic: bool) -> nn.Module:
    shapes: tuple[tuple[int, int, int, int], ...]
    if basic:
        shapes = ((inputs, inner, 3, stride), (inner, outputs, 3, 1))
    else:
        shapes = ((inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1))
    body: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (before, after, kernel, step) in enumerate(shapes, start=1):
        body[f"conv{index}"] = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
        if batch_norm:
            body[f"norm{index}"] = nn.BatchNorm2d(after)
        if index < len(shapes):
            body[f"relu{index}"] = nn.ReLU()
    shortcut: nn.Module = nn.Identity()
    if stride != 1 or inputs != outputs:
        projection: OrderedDict[str, nn.Module] = OrderedDict()
        projection["conv"] = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        if batch_norm:
            projection["norm"] = nn.BatchNorm2d(outputs)
        shortcut = nn.Sequential(projection)
    return Residual(nn.Sequential(body), shortcut, final_relu=True)


def wide_resnet(input_shape: tuple[int, ...], classes: int, *, depth: int, widen: int, batch_norm: bool) -> nn.Module:
    """WideResNet-d-k of Zagoruyko & Komodakis 2016: pre-activation basic blocks, 16k, 32k, 64k wide.

    WideResNet-28-10 at 10 classes has the published 36.5 million parameters (36,479,194). Without batch norm the
    convolutions have biases.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"the depth of a WideResNet is 6n+4 (10, 16, 22, 28, 40 …), got {depth}")
    channels, _, _ = image_shape(input_shape, f"wide-resnet{depth}-{widen}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=not batch_norm))
    current = 16
    for stage in range(3):
        outputs = 16 * widen * 2**stage
        sequence = []
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            sequence.append(_preactivation(current, outputs, stride, batch_norm))
            current = outputs
        layers[f"stage{stage + 1}"] = nn.Sequential(*sequence)
    layers["norm"] = nn.BatchNorm2d(current) if batch_norm else nn.Identity()
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(current, classes)
    return nn.Sequential(layers)


class Preactivation(nn.Module):
    """x + body(a) or projection(a) + body(a), with a = ReLU(norm(x)) shared by both branches."""

    def __init__(self, activation: nn.Module, body: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.activation = activation
        self.body = body
        self.projection = projection

    def forward(self, inputs: Tensor) -> Tensor:
        activated = self.activation(inputs)
        shortcut = inputs if self.projection is None else self.projection(activated)
        result: Tensor = shortcut + self.body(activated)
        return result


def _preactivation(inputs: int, outputs: int, stride: int, batch_norm: bool) -> nn.Module:
    activation: OrderedDict[str, nn.Module] = OrderedDict()
    if batch_norm:
        activation["norm"] = nn.BatchNorm2d(inputs)
    activation["relu"] = nn.ReLU()
    body: OrderedDict[str, nn.Module] = OrderedDict()
    body["conv1"] = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not batch_norm)
    if batch_norm:
        body["norm2"] = nn.BatchNorm2d(outputs)
    body["relu2"] = nn.ReLU()
    body["conv2"] = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=not batch_norm)
    projection = None
    if stride != 1 or inputs != outputs:
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=not batch_norm)
    return Preactivation(nn.Sequential(activation), nn.Sequential(body), projection)
