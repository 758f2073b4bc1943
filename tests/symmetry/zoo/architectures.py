"""Whole architectures by hand, at small widths, with random weights: too large for the oracle, fit for transformations.

Each factory returns (module, batch, loss_fn) in float64 and training mode, every norm's eps at 1e-20.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Concat, Residual
from ..network import prepared
from .attention import PatchViT
from .recurrent import Last, Unrolled
from .vision import BasicBlock, ConvNeXtBlock

Loss = Callable[[nn.Module, Any], Tensor]
Case = tuple[nn.Module, Any, Loss]

FULL: dict[str, Callable[[], Case]] = {}


def full(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def register(factory: Callable[[], Case]) -> Callable[[], Case]:
        if name in FULL:
            raise ValueError(f"two architectures are called {name!r}")
        FULL[name] = factory
        return factory

    return register


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, classes = batch
    return functional.cross_entropy(model(images), classes)


def _classifier(module: nn.Module, shape: tuple[int, ...], classes: int = 5) -> Case:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    return prepared(module), (images, torch.randint(classes, shape[:1], generator=generator)), classify


def vgg_layers(widths: list[int | str], inputs: int, norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(inputs, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
        inputs = width
    return layers


@full("vgg")
def vgg() -> Case:
    body = vgg_layers([4, "M", 6, "M", 8, 8, "M"], 3, norm=False)
    head = [nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Dropout(0.5), nn.Linear(10, 5)]
    return _classifier(nn.Sequential(*body, *head), (8, 3, 16, 16))


@full("vgg-bn")
def vgg_bn() -> Case:
    body = vgg_layers([4, "M", 6, "M", 8, 8, "M"], 3, norm=True)
    head = [nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Dropout(0.5), nn.Linear(10, 5)]
    return _classifier(nn.Sequential(*body, *head), (8, 3, 16, 16))


@full("resnet")
def resnet() -> Case:
    stem = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = [BasicBlock(4, 4), BasicBlock(4, 4), BasicBlock(4, 6, 1), BasicBlock(6, 6), BasicBlock(6, 8)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return _classifier(nn.Sequential(*stem, *blocks, *head), (8, 3, 12, 12))


class Bottleneck(nn.Module):
    """ResNet-50's block: one by one, three by three, one by one, projection where the width or stride changes."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


@full("resnet-bottleneck")
def resnet_bottleneck() -> Case:
    return _classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), Bottleneck(4, 2), Bottleneck(8, 2),
            Bottleneck(8, 3, 2), Bottleneck(12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
        ),
        (8, 3, 10, 10),
    )  # fmt: skip


class WideBlock(nn.Module):
    """WideResNet's pre-activation block; the projection reads the activated stream."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout(0.3)
        self.project = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        activated = torch.relu(self.bn1(x))
        inner = self.conv2(self.dropout(torch.relu(self.bn2(self.conv1(activated)))))
        return inner + (x if self.project is None else self.project(activated))


@full("wide-resnet")
def wide_resnet() -> Case:
    return _classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), WideBlock(4, 6, 1), WideBlock(6, 6, 1), WideBlock(6, 8, 2),
            nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ),
        (8, 3, 10, 10),
    )  # fmt: skip


def dense_layer(inputs: int, growth: int) -> nn.Module:
    return Concat(
        nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 2 * growth, 1, bias=False), nn.BatchNorm2d(2 * growth),
            nn.ReLU(), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False),
        ),
        keep=True,
    )  # fmt: skip


@full("densenet")
def densenet() -> Case:
    return _classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), dense_layer(4, 3), dense_layer(7, 3),
            nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 5, 1, bias=False), nn.AvgPool2d(2), dense_layer(5, 3),
            nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ),
        (8, 3, 10, 10),
    )  # fmt: skip


def inverted(width: int, expanded: int, activation: type[nn.Module]) -> nn.Module:
    return Residual(
        nn.Sequential(
            nn.Conv2d(width, expanded, 1, bias=False), nn.BatchNorm2d(expanded), activation(),
            nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False), nn.BatchNorm2d(expanded),
            activation(), nn.Conv2d(expanded, width, 1, bias=False), nn.BatchNorm2d(width),
        )
    )  # fmt: skip


@full("mobilenet")
def mobilenet() -> Case:
    return _classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU6(), inverted(4, 8, nn.ReLU6),
            inverted(4, 8, nn.Hardswish), inverted(4, 6, nn.ReLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(4, 5),
        ),
        (8, 3, 11, 11),
    )  # fmt: skip


class ChannelsFirstNorm(nn.LayerNorm):
    """Layer norm over the channel axis of an image, as ConvNeXt's down-sampling layers use it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@full("convnext")
def convnext() -> Case:
    return _classifier(
        nn.Sequential(
            nn.Conv2d(3, 4, 2, 2), ChannelsFirstNorm(4), ConvNeXtBlock(4), ConvNeXtBlock(4), ChannelsFirstNorm(4),
            nn.Conv2d(4, 6, 2, 2), ConvNeXtBlock(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6),
            nn.Linear(6, 5),
        ),
        (8, 3, 16, 16),
    )  # fmt: skip


class DeepUNet(nn.Module):
    """Two levels with batch norm, max pooling, transposed convolutions and skip concatenations."""

    def __init__(self) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(*vgg_layers([outputs, outputs], inputs, norm=True))

        self.a, self.b, self.c = double(3, 4), double(4, 6), double(6, 8)
        self.up_b, self.up_a = nn.ConvTranspose2d(8, 6, 2, 2), nn.ConvTranspose2d(6, 4, 2, 2)
        self.join_b, self.join_a, self.out = double(12, 6), double(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(functional.max_pool2d(a, 2))
        c = self.c(functional.max_pool2d(b, 2))
        b = self.join_b(torch.cat([b, self.up_b(c)], dim=1))
        return self.out(self.join_a(torch.cat([a, self.up_a(b)], dim=1)))


def segment(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


@full("u-net")
def u_net() -> Case:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    return prepared(DeepUNet()), (images, torch.randint(2, (4, 8, 8), generator=generator)), segment


@full("patch-vit")
def patch_vit() -> Case:
    return _classifier(PatchViT(6, classes=3), (8, 1, 4, 4), classes=3)


@full("lstm")
def lstm() -> Case:
    return _classifier(Last(nn.LSTM(4, 3, num_layers=2, batch_first=True)), (8, 6, 4), classes=3)


@full("gru-cell")
def gru_cell() -> Case:
    return _classifier(Unrolled(nn.GRUCell(4, 6), 6), (8, 6, 4), classes=3)


@full("transformer-encoder")
def transformer_encoder() -> Case:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return _classifier(nn.Sequential(nn.Linear(4, 8), body, nn.Flatten(), nn.Linear(40, 5)), (8, 5, 4))
