"""Language-model blocks with embeddings: tied or not, learned or relative positions, routed experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Attention, Gated, Residual, RMSNorm, Tokens
from .registry import small

_TOKENS = (32, 4)
_WORDS = 6
_VOCABULARY = 10  # enough different tokens that attention and gates are seen as functions, not as a few values


class Conv1D(nn.Module):
    """GPT-2's transposed linear layer: x @ weight + bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Gpt2Attention(nn.Module):
    """Joint query-key-value projection, split along the last axis, causal softmax."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj, self.heads = Conv1D(width, 3 * width), Conv1D(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.c_attn(x).split(width, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width))


@small("gpt2-tied", _TOKENS, tokens=_VOCABULARY)
def gpt2_tied() -> nn.Module:
    body = nn.Sequential(
        Residual(nn.Sequential(nn.LayerNorm(4), Gpt2Attention(4, 2))),
        Residual(nn.Sequential(nn.LayerNorm(4), Conv1D(4, 3), nn.GELU(approximate="tanh"), Conv1D(3, 4))),
        nn.LayerNorm(4),
    )
    return Tokens(_VOCABULARY, 4, body, positions=4, tied=True)


@small("bert", _TOKENS, tokens=_VOCABULARY)
def bert() -> nn.Module:
    body = nn.Sequential(
        nn.LayerNorm(4),
        Residual(Attention(4, 1, 2, biases="qkvo")),
        nn.LayerNorm(4),
        Residual(nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 4))),
        nn.LayerNorm(4),
    )
    return Tokens(_VOCABULARY, 4, body, positions=4, bias=True)


@small("llama", _TOKENS, tokens=_VOCABULARY)
def llama() -> nn.Module:
    body = nn.Sequential(
        Residual(nn.Sequential(RMSNorm(4), Attention(4, 2, 2, key_heads=1, rotary=True, causal=True, fused=True))),
        Residual(nn.Sequential(RMSNorm(4), Gated(4, 3, "silu"))),
        RMSNorm(4),
    )
    return Tokens(_VOCABULARY, 4, body)


@small("qwen3", _TOKENS, tokens=_VOCABULARY)
def qwen3() -> nn.Module:
    body = nn.Sequential(
        Residual(nn.Sequential(RMSNorm(4), Attention(4, 2, 2, key_heads=1, rotary=True, qk_norm=True, causal=True))),
        Residual(nn.Sequential(RMSNorm(4), Gated(4, 3, "silu"))),
        RMSNorm(4),
    )
    return Tokens(_VOCABULARY, 4, body, tied=True)


@small("embedding-into-linear", _TOKENS, tokens=_WORDS)
def embedding_into_linear() -> nn.Module:
    return Tokens(_WORDS, 3, nn.Linear(3, 3))


@small("embedding-bag-of-words", _TOKENS, tokens=_WORDS)
def embedding_bag_of_words() -> nn.Module:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.hidden, self.head = nn.Embedding(_WORDS, 3), nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(torch.relu(self.hidden(self.embedding(tokens).mean(1))))

    return Bag()


@small("tied-without-norm", _TOKENS, tokens=_WORDS)
def tied_without_norm() -> nn.Module:
    return Tokens(_WORDS, 3, nn.Tanh(), positions=4, tied=True)


class RelativeAttention(nn.Module):
    """T5's attention: no scaling, a learned bias for each relative distance and head."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.relative = nn.Embedding(2 * length - 1, heads)
        self.heads, self.length = heads, length

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            f(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        place = torch.arange(length, device=x.device)
        bias = self.relative(place[None, :] - place[:, None] + self.length - 1).permute(2, 0, 1)
        mixed = torch.softmax(q @ k.transpose(2, 3) + bias, dim=-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(batch, length, width))


@small("t5-tied", _TOKENS, tokens=_WORDS)
def t5_tied() -> nn.Module:
    class Rescaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 4**-0.5

    body = nn.Sequential(
        Residual(nn.Sequential(RMSNorm(4), RelativeAttention(4, 2, 4))),
        Residual(nn.Sequential(RMSNorm(4), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 4, bias=False))),
        RMSNorm(4),
        Rescaled(),
    )
    return Tokens(_WORDS, 4, body, tied=True)


class DenseExperts(nn.Module):
    """Experts mixed by a full softmax over a linear router."""

    def __init__(self, width: int, experts: int, hidden: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, hidden))
        self.down = nn.Parameter(torch.randn(experts, hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(torch.einsum("btd,edh->bteh", x, self.up))
        outputs = torch.einsum("bteh,ehd->bted", hidden, self.down)
        return (torch.softmax(self.router(x), dim=-1)[..., None] * outputs).sum(-2)


class RoutedExperts(DenseExperts):
    """The two best experts of each token, their weights renormalised, as Mixtral routes them."""

    def forward(self, x: Tensor) -> Tensor:
        chance = torch.softmax(self.router(x), dim=-1)
        weight, chosen = torch.topk(chance, 2, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        gates = torch.zeros_like(chance).scatter(-1, chosen, weight)
        hidden = torch.relu(torch.einsum("btd,edh->bteh", x, self.up))
        outputs = torch.einsum("bteh,ehd->bted", hidden, self.down)
        return (gates[..., None] * outputs).sum(-2)


@small("dense-experts", (32, 4, 3))
def dense_experts() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), Residual(DenseExperts(3, 3, 3)), nn.Linear(3, 5))


@small("routed-experts", (32, 4, 3))
def routed_experts() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), Residual(RoutedExperts(3, 3, 3)), nn.Linear(3, 5))


@small("masked-mean-pool", _TOKENS, tokens=_WORDS)
def masked_mean_pool() -> nn.Module:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.mix = nn.Embedding(_WORDS, 4), Attention(4, 1, 4, biases="k", fused=True)
            self.head = nn.Linear(4, 6)

        def forward(self, tokens: Tensor) -> Tensor:
            mask = (tokens != 0).to(self.head.weight.dtype)[..., None]
            x = self.mix(self.embedding(tokens)) * mask
            return self.head(x.sum(1) / mask.sum(1).clamp(min=1))

    return Pooled()


@small("positions-key-bias-before-a-norm", _TOKENS, tokens=_VOCABULARY)
def positions_key_bias_before_a_norm() -> nn.Module:
    """What shifts positions is forgotten by the norm or answered by the table, and some of it moves no parameter."""
    body = nn.Sequential(Attention(4, 3, 2, biases="ko"), nn.LayerNorm(4, bias=False), Residual(Attention(4, 1, 2)))
    return Tokens(_VOCABULARY, 4, body, positions=4)
