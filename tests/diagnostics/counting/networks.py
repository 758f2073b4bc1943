"""Small networks whose numbers of conservation laws are known."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def linear_network(*widths: int) -> nn.Sequential:
    """W_L … W_1 x without biases."""
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))


def relu_network(widths: list[int], bias: bool) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class SwiGLU(nn.Module):
    """down(silu(gate x)·(up x))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def turned(x: Tensor) -> Tensor:
    """The channels k and k + d/2 of position t rotated by t/10^k radians."""
    first, second = x.chunk(2, dim=-1)
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * 10.0 ** -torch.arange(first.shape[-1], dtype=x.dtype)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Softmax attention: ``heads`` heads of size ``size``, without position encoding or with rotary embeddings."""

    def __init__(self, dim: int, heads: int, size: int, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.size, self.rotary = heads, size, rotary
        self.query, self.key, self.value = (nn.Linear(dim, heads * size, bias=False) for _ in range(3))
        self.output = nn.Linear(heads * size, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            m(x).unflatten(-1, (self.heads, self.size)).transpose(1, 2) for m in (self.query, self.key, self.value)
        )
        if self.rotary:
            q, k = (turned(z) for z in (q, k))
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy of a (inputs, classes) pair."""
    return F.cross_entropy(model(batch[0]), batch[1])


def feed_forward(dim: int, hidden: int, activation: nn.Module, bias: bool = True) -> nn.Sequential:
    """Two linear layers with an activation between."""
    return nn.Sequential(nn.Linear(dim, hidden, bias=bias), activation, nn.Linear(hidden, dim, bias=bias))


def one(width: int) -> Tensor:
    """A batch of a single input."""
    return torch.zeros(1, width)


class Block(nn.Module):
    """A transformer block with norms before its parts: attention with packed projections, and a GELU network."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.packed, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in self.packed(self.first(x)).chunk(3, dim=-1)
        )
        x = x + self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))
