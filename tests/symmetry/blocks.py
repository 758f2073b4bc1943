"""Small building blocks shared by the random networks and the zoo, each written as people write it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Concat(nn.Module):
    """Branches side by side along the channels; `keep` puts the input itself first, as DenseNet does."""

    def __init__(self, *branches: nn.Module, keep: bool = False, dim: int = 1) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.keep = keep
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches]
        return torch.cat([x, *parts] if self.keep else parts, dim=self.dim)


class ReluSquared(nn.Module):
    """relu(x)², homogeneous of degree two."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


class RMSNorm(nn.Module):
    """Root-mean-square norm written out with pow, mean, rsqrt and mul."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


GATES = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "relu2": lambda x: functional.relu(x).square(),
}


class Gated(nn.Module):
    """down(gate_activation(gate(x)) · up(x)): SwiGLU, GEGLU, ReGLU, GLU, bilinear."""

    def __init__(self, width: int, hidden: int, gate: str, bias: bool = False) -> None:
        super().__init__()
        self.kind = gate
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(GATES[self.kind](self.gate(x)) * self.up(x))

    def extra_repr(self) -> str:
        return f"activation={self.kind}"


def rotate(x: Tensor, base: float = 10.0) -> Tensor:
    """Rotary embedding over [batch, heads, tokens, width]: halves paired, as Llama does."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
    angle = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device)[:, None] * frequency
    cosine, sine = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cosine + turned * sine


class Attention(nn.Module):
    """Multi-head attention with separate projections; grouped keys, rotary, QK norm and a causal mask on request."""

    def __init__(
        self,
        width: int,
        heads: int = 1,
        head_width: int = 2,
        *,
        biases: str = "",
        key_heads: int | None = None,
        rotary: bool = False,
        qk_norm: bool = False,
        causal: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads or heads, head_width
        self.rotary, self.causal, self.fused = rotary, causal, fused
        self.q = nn.Linear(width, heads * head_width, bias="q" in biases)
        self.k = nn.Linear(width, self.key_heads * head_width, bias="k" in biases)
        self.v = nn.Linear(width, self.key_heads * head_width, bias="v" in biases)
        self.o = nn.Linear(heads * head_width, width, bias="o" in biases)
        self.q_norm = RMSNorm(head_width) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_width) if qk_norm else nn.Identity()

    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, self.head_width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q_norm(self.split(self.q(x), self.heads))
        k = self.k_norm(self.split(self.k(x), self.key_heads))
        v = self.split(self.v(x), self.key_heads)
        if self.rotary:
            q, k = rotate(q), rotate(k)
        if self.key_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.key_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.key_heads, dim=1)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_width)
            if self.causal:
                blocked = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(blocked, float("-inf"))
            mixed = torch.softmax(scores, dim=-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


class Tokens(nn.Module):
    """Token embedding, optional position embedding, a body, and a head that may be tied to the embedding."""

    def __init__(
        self,
        vocabulary: int,
        width: int,
        body: nn.Module,
        *,
        positions: int = 0,
        tied: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.body = body
        self.head = nn.Linear(width, vocabulary, bias=bias)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.body(x))
