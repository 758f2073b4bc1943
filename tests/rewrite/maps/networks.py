"""Small networks in plain torch whose maps are known by hand."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.symmetry import Symmetries, find_symmetries

WIDTH, HEADS, INNER, TOKENS = 8, 2, 12, 11


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


class Attention(nn.Module):
    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    def __init__(self, inner: int = INNER) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """All experts for all tokens, weighted by a router, beside one that all share."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, 3, bias=False)
        self.experts = nn.ModuleList(GatedMLP(6) for _ in range(3))
        self.shared = GatedMLP(4)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        return self.shared(x) + sum(weights[..., k, None] * expert(x) for k, expert in enumerate(self.experts))


class Block(nn.Module):
    def __init__(self, experts: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(bias), Experts() if experts else GatedMLP()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(WIDTH), RMSNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """A decoder; ``experts``: which of its layers have several; ``tied``: embedding and head are one tensor."""

    def __init__(self, layers: int = 2, experts: tuple[int, ...] = (), tied: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(TOKENS, WIDTH)
        self.layers = nn.ModuleList(Block(k in experts, bias) for k in range(layers))
        self.norm, self.lm_head = RMSNorm(WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def decoder(**settings: object) -> Decoder:
    """A decoder in double precision with gains that are not ones."""
    model = Decoder(**settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            elif "embed" not in name:
                parameter.mul_(2.0)
    return model


@cache
def symmetries_of_a_decoder() -> Symmetries:
    """Those of ``decoder()``, found once."""
    return find_symmetries(decoder(), texts())


def texts() -> Tensor:
    """Two texts."""
    return torch.arange(10).reshape(2, 5) % TOKENS
