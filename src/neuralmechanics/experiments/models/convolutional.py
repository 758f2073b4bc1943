"""Plain convolutional networks: small ones for digits, and the VGG family of the paper."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from neuralmechanics.experiments.models.layers import LARGE_INPUT, conv_block, image_shape

# Convolutions per stage; stages are 64, 128, 256, 512, 512 wide (Simonyan & Zisserman 2015, table 1).
_VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
# The side of the grid of features that ImageNet's classifier reads.
_LARGE_GRID = 7


def convnet(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """Two convolutions of 16 and 32 channels, each with max-pooling, and a linear head."""
    features, outputs = _stages(input_shape, "convnet", widths=(16, 32), depths=(1, 1), batch_norm=batch_norm)
    features["flatten"] = nn.Flatten()
    features["head"] = nn.Linear(outputs, classes)
    return nn.Sequential(features)


def conv(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """Two convolutions of 32 channels without pooling and a linear head (the reference code's `conv`)."""
    channels, height, width = image_shape(input_shape, "conv")
    layers = conv_block(channels, 32, 1, batch_norm=batch_norm)
    layers.update(conv_block(32, 32, 2, batch_norm=batch_norm))
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(32 * height * width, classes)
    return nn.Sequential(layers)


def vgg_small(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """A VGG in miniature: stages of two convolutions, 16 and 32 wide, and one hidden layer of 64."""
    features, outputs = _stages(input_shape, "vgg-small", widths=(16, 32), depths=(2, 2), batch_norm=batch_norm)
    classifier = OrderedDict(linear1=nn.Linear(outputs, 64), relu1=nn.ReLU(), head=nn.Linear(64, classes))
    return _assemble(features, classifier)


def vgg(input_shape: tuple[int, ...], classes: int, *, depth: int, batch_norm: bool) -> nn.Module:
    """VGG-11/13/16/19 with the paper's classifier of 1024-1024 and two dropouts; from 128 pixels on that of ImageNet.

    VGG-16 at 64×64 and 200 classes has 18,067,464 parameters, 18,075,912 with batch norm. At ImageNet's size the
    features are averaged to 7×7 and the classifier is 4096-4096, as published: 138,357,544 parameters at 1000 classes.
    A stage whose input is one pixel wide leaves its pooling out, so that any input size works.
    """
    features, outputs = _stages(
        input_shape, f"vgg{depth}", (64, 128, 256, 512, 512), _VGG_STAGES[depth], batch_norm=batch_norm
    )
    width = 1024
    if min(input_shape[1:]) >= LARGE_INPUT:
        features["average"] = nn.AdaptiveAvgPool2d(_LARGE_GRID)
        outputs, width = 512 * _LARGE_GRID**2, 4096
    classifier = OrderedDict(
        linear1=nn.Linear(outputs, width),
        relu1=nn.ReLU(),
        dropout1=nn.Dropout(0.5),
        linear2=nn.Linear(width, width),
        relu2=nn.ReLU(),
        dropout2=nn.Dropout(0.5),
        head=nn.Linear(width, classes),
    )
    return _assemble(features, classifier)


def _assemble(features: OrderedDict[str, nn.Module], classifier: OrderedDict[str, nn.Module]) -> nn.Module:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        features=nn.Sequential(features), flatten=nn.Flatten(), classifier=nn.Sequential(classifier)
    )
    return nn.Sequential(parts)


def _stages(
    input_shape: tuple[int, ...],
    model: str,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    batch_norm: bool,
) -> tuple[OrderedDict[str, nn.Module], int]:
    """Convolution stages, each closed by 2×2 max-pooling while pixels last, and their flat output size."""
    channels, height, width = image_shape(input_shape, model)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    index = 0
    for stage, (outputs, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        for _ in range(depth):
            index += 1
            layers.update(conv_block(channels, outputs, index, batch_norm=batch_norm))
            channels = outputs
        if height > 1 and width > 1:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
    return layers, channels * height * width
