"""Convolutional networks: the block of every architecture family, at a few channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import Concat, Residual
from .registry import small

_IMAGE = (40, 2, 5, 5)


def _head(channels: int, classes: int = 3) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


@small("vgg", (40, 2, 6, 6))
def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(3, 3),
    )  # fmt: skip


@small("vgg-bn", (40, 2, 6, 6))
def vgg_bn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)
    )


@small("norm-after-max-pool", (40, 2, 6, 6))
def norm_after_max_pool() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.ReLU(), *_head(3))


class BasicBlock(nn.Module):
    """ResNet's basic block; a projection shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, final_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 2, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.final = nn.ReLU() if final_relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.final(inner + self.shortcut(x))


@small("resnet-projection", _IMAGE)
def resnet_projection() -> nn.Module:
    return nn.Sequential(BasicBlock(2, 3), *_head(3))


@small("resnet-identity", _IMAGE)
def resnet_identity() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), BasicBlock(3, 3), *_head(3, 5))


@small("preactivation-resnet", _IMAGE)
def preactivation_resnet() -> nn.Module:
    inner = nn.Sequential(
        nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1)
    )
    return nn.Sequential(nn.Conv2d(2, 3, 2), Residual(inner), nn.BatchNorm2d(3), nn.ReLU(), *_head(3))


@small("densenet", _IMAGE)
def densenet() -> nn.Module:
    def layer(channels: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2, 1, bias=False))

    return nn.Sequential(
        nn.Conv2d(2, 3, 2, bias=False), Concat(layer(3), keep=True), Concat(layer(5), keep=True), nn.BatchNorm2d(7),
        nn.ReLU(), *_head(7),
    )  # fmt: skip


@small("mobilenet", _IMAGE)
def mobilenet() -> nn.Module:
    inner = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.Hardtanh(0.0, 1.0),  # ReLU6 at a bound that small random networks reach
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1, bias=False),
        nn.BatchNorm2d(3),
    )
    return nn.Sequential(nn.Conv2d(2, 3, 2), Residual(inner), *_head(3, 5))


@small("depthwise-separable", _IMAGE, "output")
def depthwise_separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 2, groups=4), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.ReLU(), *_head(3)
    )


class SqueezeExcite(nn.Module):
    """Channel gates from pooled channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


@small("squeeze-excite", _IMAGE)
def squeeze_excite() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), SqueezeExcite(4, 3), nn.Conv2d(4, 3, 1), nn.ReLU(), *_head(3))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm over channels last, two linear maps, layer scale."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 5), nn.Linear(5, channels, bias=bias)
        self.layer_scale = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.layer_scale * self.down(nn.functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


@small("convnext", _IMAGE)
def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 2), ConvNeXtBlock(4), *_head(4, 6))


@small("convnext-scale-without-bias", _IMAGE)
def convnext_scale_without_bias() -> nn.Module:
    """No bias in front of the layer scale, whose shift only a later bias could answer."""
    return nn.Sequential(nn.Conv2d(2, 4, 2), ConvNeXtBlock(4, bias=False), *_head(4, 6))


class UNet(nn.Module):
    """One level down and up again: strided and transposed convolution, skip by concatenation."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, width, 1)
        self.deep = nn.Conv2d(width, width, 2, stride=2)
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.out = nn.Conv2d(2 * width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        side = torch.relu(self.down(x))
        return self.out(torch.cat([side, torch.relu(self.up(torch.relu(self.deep(side))))], dim=1))


@small("u-net", (16, 2, 4, 4), "mse")
def u_net() -> nn.Module:
    return UNet()


@small("transposed-grouped", (24, 4, 3, 3), "output")
def transposed_grouped() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 1)
    )


@small("upsample-and-pad", (24, 2, 3, 3), "output")
def upsample_and_pad() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1),
        nn.Conv2d(3, 2, 2),
    )  # fmt: skip


@small("pixel-shuffle", (24, 2, 3, 3), "output")
def pixel_shuffle() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(2, 2, 2))


@small("group-norm", _IMAGE)
def group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), *_head(3))


@small("instance-norm", _IMAGE)
def instance_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 2), nn.InstanceNorm2d(4, affine=True), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), *_head(3)
    )


@small("conv1d-stack", (40, 2, 9))
def conv1d_stack() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, stride=2), nn.BatchNorm1d(4), nn.PReLU(4), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(8, 3)
    )


@small("conv3d-stack", (40, 1, 4, 4, 4))
def conv3d_stack() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, 2), nn.LeakyReLU(0.1), nn.MaxPool3d(2, stride=1), nn.Flatten(), nn.Linear(24, 3)
    )


@small("channel-shuffle", _IMAGE)
def channel_shuffle() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.ChannelShuffle(2), nn.Conv2d(4, 4, 2, groups=2), nn.ReLU(), *_head(4)
    )


@small("split-branches", _IMAGE)
def split_branches() -> nn.Module:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 2, 3, padding="same")

        def forward(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, dim=1)
            return torch.cat([self.b(right), torch.relu(self.a(left))], dim=1)

    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), Split(), nn.ReLU(), *_head(5))


@small("bilinear-pooling", _IMAGE)
def bilinear_pooling() -> nn.Module:
    class Bilinear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(2)
            return torch.bmm(flat, flat.transpose(1, 2)).flatten(1)

    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), Bilinear(), nn.Linear(9, 3))
