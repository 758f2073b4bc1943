"""Small networks of published kinds, whose groups are known by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Tensors = dict[str, Tensor]


class Attention(nn.Module):
    """Grouped-query attention over tokens: ``queries`` heads in ``groups`` groups, each with one key and one value."""

    def __init__(self, width: int, queries: int, groups: int, size: int, context: int | None = None) -> None:
        super().__init__()
        self.queries, self.groups, self.size = queries, groups, size
        self.q = nn.Linear(width, queries * size, bias=False)
        self.k = nn.Linear(context or width, groups * size, bias=False)
        self.v = nn.Linear(context or width, groups * size, bias=False)
        self.o = nn.Linear(queries * size, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        batch, repeats = x.shape[0], self.queries // self.groups
        q = self.q(x).view(batch, -1, self.queries, self.size).transpose(1, 2)
        k, v = (
            m(source).view(batch, -1, self.groups, self.size).transpose(1, 2).repeat_interleave(repeats, 1)
            for m in (self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.o(mixed.transpose(1, 2).reshape(batch, -1, self.queries * self.size))
        return out


class Block(nn.Module):
    """A pre-norm transformer block with a gated MLP."""

    def __init__(self, width: int, norm: type[nn.Module], queries: int = 2, groups: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention = Attention(width, queries, groups, 3)
        self.gate, self.up = nn.Linear(width, 5, bias=False), nn.Linear(width, 5, bias=False)
        self.down = nn.Linear(5, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        out: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return out


def transformer(norm: type[nn.Module], queries: int = 2, groups: int = 2) -> nn.Module:
    """Embedding, two blocks, a final norm and a head."""
    blocks = (Block(4, norm, queries, groups) for _ in range(2))
    return nn.Sequential(nn.Embedding(7, 4), *blocks, norm(4), nn.Linear(4, 7, bias=False))


class Residual(nn.Module):
    """A ResNet's basic block, or its bottleneck, with batch norms and a projection where the shape changes."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (inputs, *(inner,) * (len(kernels) - 1), outputs)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, k, stride if j == len(kernels) - 2 else 1, k // 2, bias=False)
            for j, (a, b, k) in enumerate(zip(widths, widths[1:], kernels, strict=False))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[1:])
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = y if k == len(self.convs) - 1 else functional.relu(y)
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet(depths: tuple[int, ...], widths: tuple[int, ...], bottleneck: bool) -> nn.Module:
    """A residual network; the outputs of bottlenecks are four times as wide as what is inside."""
    wider, blocks, current = 4 if bottleneck else 1, [], widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            blocks.append(Residual(current, width, width * wider, stride, bottleneck))
            current = width * wider
    stem = (nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(current, 10))


def vgg16(width: int) -> nn.Module:
    """VGG-16 with batch norms for images of 32 pixels; ``width`` channels at first."""
    layers: list[nn.Module] = []
    current, stages = 3, (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8)
    for wider in stages:
        if wider:
            layers += [nn.Conv2d(current, wider * width, 3, padding=1), nn.BatchNorm2d(wider * width), nn.ReLU()]
            current = wider * width
        else:
            layers.append(nn.MaxPool2d(2))
    dense = (nn.Linear(4 * current, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5), nn.ReLU(), nn.Dropout())
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Sequential(*dense, nn.Linear(5, 10)))


class UNetBlock(nn.Module):
    """A block of a latent diffusion U-Net: a residual block with a time embedding, a transformer with a context."""

    def __init__(self, inputs: int = 4, width: int = 8, context: int = 5) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), nn.Conv2d(inputs, width, 3, padding=1)
        self.time = nn.Linear(6, width)
        self.norm2, self.conv2 = nn.GroupNorm(2, width), nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(inputs, width, 1)
        self.norm3, self.enter = nn.GroupNorm(2, width), nn.Conv2d(width, 6, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.own, self.cross = Attention(6, 2, 2, 3), Attention(6, 2, 2, 3, context)
        self.gated, self.down = nn.Linear(6, 14), nn.Linear(7, 6)
        self.leave = nn.Conv2d(6, width, 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x))) + self.time(functional.silu(time))[:, :, None, None]
        h = self.skip(x) + self.conv2(functional.silu(self.norm2(h)))
        tokens = self.enter(self.norm3(h)).flatten(2).transpose(1, 2)
        tokens = tokens + self.own(self.norms[0](tokens))
        tokens = tokens + self.cross(self.norms[1](tokens), context)
        value, gate = self.gated(self.norms[2](tokens)).chunk(2, -1)
        tokens = tokens + self.down(value * functional.gelu(gate))
        return h + self.leave(tokens.transpose(1, 2).reshape(h.shape[0], 6, *h.shape[2:]))


class UNet(nn.Module):
    """Down, a block in the middle, and up again with what was skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.down = nn.Conv2d(3, 4, 3, padding=1), UNetBlock(4), nn.Conv2d(8, 8, 3, 2, 1)
        self.middle, self.up = UNetBlock(8), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.head = UNetBlock(16), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        skipped = self.first(self.stem(x), time, context)
        y = self.middle(self.down(skipped), time, context)
        y = self.up(functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        out: Tensor = self.head(self.last(torch.cat([y, skipped], 1), time, context))
        return out


class SoftExperts(nn.Module):
    """Every token at every expert, weighted by a router's softmax."""

    def __init__(self, width: int = 4, experts: int = 3, hidden: int = 5) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.first = nn.Parameter(torch.randn(experts, width, hidden))
        self.second = nn.Parameter(torch.randn(experts, hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(torch.einsum("bi,eih->beh", x, self.first))
        each = torch.einsum("beh,eho->beo", hidden, self.second)
        return torch.einsum("be,beo->bo", self.router(x).softmax(-1), each)


def prepared(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, every parameter random, so that no gain is one and no bias zero."""
    draw = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.copy_(noise / max(1.0, parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 1 + noise / 3)
    return model
