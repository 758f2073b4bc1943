"""Small networks of the kinds that people quantise, and their outputs at any state dict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

WORDS, WIDTH, LENGTH = 11, 8, 5


def outputs(model: nn.Module, params: Mapping[str, Tensor], batch: Tensor) -> Tensor:
    """f(θ), with tied parameters given apart."""
    with torch.no_grad():
        out: Tensor = functional_call(model, {k: v.clone() for k, v in params.items()}, (batch,), tie_weights=False)
    return out


def change(model: nn.Module, params: Mapping[str, Tensor], batch: Tensor) -> float:
    """The greatest difference of outputs over the greatest output."""
    before, after = outputs(model, model.state_dict(), batch), outputs(model, params, batch)
    return float((before - after).abs().max() / before.abs().max())


def disturbed(model: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, no gain 1 and no bias 0; about half of the gains negative."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.double().parameters():
            if p.ndim < 2:
                p.copy_(1.5 * torch.randn(p.shape, generator=draw, dtype=torch.float64))
        for name, x in model.named_buffers():
            if x.is_floating_point() and "running" in name:
                x.copy_(0.5 + torch.rand(x.shape, generator=draw, dtype=torch.float64))
    return model.eval()


def tokens() -> Tensor:
    return torch.randint(WORDS, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def vectors(width: int = 3) -> Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 2)
    )


class ConvNet(nn.Module):
    """Batch norms, a residual connection and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.wide, self.norm1 = nn.Conv2d(6, 10, 1), nn.BatchNorm2d(10)
        self.depthwise, self.norm2 = nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.BatchNorm2d(10)
        self.narrow, self.norm3 = nn.Conv2d(10, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        y = functional.relu(self.norm1(self.wide(x)))
        y = functional.relu(self.norm2(self.depthwise(y)))
        x = functional.relu(x + self.norm3(self.narrow(y)))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class GPTBlock(nn.Module):
    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.packed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.packed(self.norm1(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class GPT(nn.Module):
    """Pre-norm, with layer norms; ``tied``: the head is the embedding."""

    def __init__(self, tied: bool = False, blocks: int = 1) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(GPTBlock() for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=not tied)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.head(self.norm(h))
        return out


class RMSNorm(nn.Module):
    """Gains w, or 1 + w where ``offset`` is 1, computed in ``precision`` as published models do."""

    def __init__(self, offset: float, precision: torch.dtype) -> None:
        super().__init__()
        self.weight, self.offset, self.precision = nn.Parameter(torch.zeros(WIDTH) + 1 - offset), offset, precision

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(self.precision)
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        return normed.to(x.dtype) * (self.offset + self.weight)


class LlamaBlock(nn.Module):
    """Grouped queries (4 heads, 2 groups), rotary embedding, gated MLP; ``after``: a norm on what each half writes."""

    def __init__(self, offset: float, precision: torch.dtype, after: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(offset, precision), RMSNorm(offset, precision)
        self.after1 = RMSNorm(offset, precision) if after else nn.Identity()
        self.after2 = RMSNorm(offset, precision) if after else nn.Identity()
        self.q, self.o = nn.Linear(WIDTH, 16, bias=False), nn.Linear(16, WIDTH, bias=False)
        self.k, self.v = nn.Linear(WIDTH, 8, bias=False), nn.Linear(WIDTH, 8, bias=False)
        self.gate, self.up = nn.Linear(WIDTH, 12, bias=False), nn.Linear(WIDTH, 12, bias=False)
        self.down = nn.Linear(12, WIDTH, bias=False)
        angles = torch.arange(LENGTH)[:, None] * torch.tensor([1.0, 0.1])
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def rotary(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (f(h).unflatten(-1, (-1, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        k, v = (t.repeat_interleave(2, 1) for t in (self.rotary(k), v))
        mixed = functional.scaled_dot_product_attention(self.rotary(q), k, v, is_causal=True)
        x = x + self.after1(self.o(mixed.transpose(1, 2).flatten(2)))
        h = self.norm2(x)
        out: Tensor = x + self.after2(self.down(functional.silu(self.gate(h)) * self.up(h)))
        return out


class Llama(nn.Module):
    """Pre-norm, with RMS norms; Gemma with ``offset=1``, Gemma 2 with ``after`` as well."""

    def __init__(
        self,
        offset: float = 0.0,
        *,
        tied: bool = False,
        after: bool = False,
        precision: torch.dtype = torch.float64,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(LlamaBlock(offset, precision, after) for _ in range(blocks))
        self.norm, self.head = RMSNorm(offset, precision), nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.head(self.norm(h))
        return out
