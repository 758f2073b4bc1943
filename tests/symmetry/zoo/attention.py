"""Attention in its many forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import Attention, Gated, Residual, RMSNorm
from .registry import small

_VECTORS = (24, 4, 4)


class Stream(nn.Module):
    """A linear entry, a body, a linear head for each token, with more classes than channels: it hides nothing."""

    def __init__(self, *body: nn.Module, width: int = 4, bias: bool = True, classes: int = 6) -> None:
        super().__init__()
        self.entry = nn.Linear(4, width, bias=bias)
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.entry(x)))


@small("attention-no-bias", _VECTORS)
def attention_no_bias() -> nn.Module:
    return Stream(Residual(Attention(4, 2, 2)))


@small("attention-all-biases", _VECTORS)
def attention_all_biases() -> nn.Module:
    return Stream(Residual(Attention(4, 2, 2, biases="qkvo")))


@small("attention-key-bias", _VECTORS)
def attention_key_bias() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, biases="k")))


@small("attention-fused-causal", _VECTORS)
def attention_fused_causal() -> nn.Module:
    return Stream(Residual(Attention(4, 2, 2, biases="qkvo", causal=True, fused=True)))


@small("attention-rotary", _VECTORS)
def attention_rotary() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, rotary=True)))


@small("attention-rotary-key-bias", _VECTORS)
def attention_rotary_key_bias() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, rotary=True, biases="qk")))


@small("attention-rotary-all-biases", _VECTORS)
def attention_rotary_all_biases() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, rotary=True, biases="qkvo")))


@small("attention-grouped-queries", _VECTORS)
def attention_grouped_queries() -> nn.Module:
    return Stream(Residual(Attention(4, 2, 2, key_heads=1)))


@small("attention-qk-norm", _VECTORS)
def attention_qk_norm() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, qk_norm=True)))


@small("attention-qk-norm-rotary", _VECTORS)
def attention_qk_norm_rotary() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 4, qk_norm=True, rotary=True, key_heads=1)))


@small("attention-pre-layer-norm", _VECTORS)
def attention_pre_layer_norm() -> nn.Module:
    return Stream(Residual(nn.Sequential(nn.LayerNorm(4), Attention(4, 1, 2, biases="qkvo"))), nn.LayerNorm(4))


@small("attention-post-layer-norm", _VECTORS)
def attention_post_layer_norm() -> nn.Module:
    return Stream(Residual(Attention(4, 1, 2, biases="qkvo")), nn.LayerNorm(4))


@small("multihead-attention-module", _VECTORS)
def multihead_attention_module() -> nn.Module:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.attention(x, x, x, need_weights=False)[0]

    return Stream(Wrapped())


@small("cross-attention", _VECTORS)
def cross_attention() -> nn.Module:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.randn(6, 4))
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            queries = self.queries.expand(x.shape[0], -1, -1)
            return self.attention(queries, x, x)[0]

    return Stream(Cross())


@small("cross-attention-separate", _VECTORS)
def cross_attention_separate() -> nn.Module:
    class Cross(Attention):
        def __init__(self) -> None:
            super().__init__(4, 1, 4, biases="kvo")
            self.queries = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.q(self.queries) @ self.k(x).transpose(1, 2)
            return self.o(torch.softmax(scores, -1) @ self.v(x))

    return Stream(Cross())


@small("linear-attention", _VECTORS, "output")
def linear_attention() -> nn.Module:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, 3, bias=False) for _ in range(3))
            self.o = nn.Linear(3, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(torch.relu(self.q(x)) @ (torch.relu(self.k(x)).transpose(1, 2) @ self.v(x)))

    return Stream(Residual(Linear()))


@small("learned-attention-bias", _VECTORS)
def learned_attention_bias() -> nn.Module:
    class Biased(Attention):
        def __init__(self) -> None:
            super().__init__(4, 1, 4)
            self.bias = nn.Parameter(torch.zeros(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(x), self.k(x), self.v(x)
            return self.o(torch.softmax(q @ k.transpose(1, 2) + self.bias, -1) @ v)

    return Stream(Residual(Biased()))


@small("encoder-layer-module", (24, 4, 4))
def encoder_layer_module() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(4, 2, 3, dropout=0.0, batch_first=True), nn.Linear(4, 6))


@small("encoder-layer-norm-first", (24, 4, 4))
def encoder_layer_norm_first() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 1, 3, dropout=0.0, batch_first=True, norm_first=True, activation="gelu")
    return nn.Sequential(nn.Linear(4, 4), layer, nn.LayerNorm(4), nn.Linear(4, 6))


@small("llama-block-on-vectors", _VECTORS)
def llama_block_on_vectors() -> nn.Module:
    return Stream(
        Residual(nn.Sequential(RMSNorm(4), Attention(4, 2, 2, key_heads=1, rotary=True, causal=True))),
        Residual(nn.Sequential(RMSNorm(4), Gated(4, 4, "silu"))),
        RMSNorm(4),
        bias=False,
    )


class PatchViT(nn.Module):
    """Patches by strided convolution, class token, position embeddings, one pre-norm block.

    The head reads the class token, or the mean over all tokens.
    """

    def __init__(self, width: int = 4, classes: int = 6, mean: bool = False) -> None:
        super().__init__()
        self.mean = mean
        self.patch = nn.Conv2d(1, width, 2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 5, width))
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width, 1, 2, biases="qkvo"))
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4), nn.GELU(), nn.Linear(4, width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.shape[0], -1, -1), tokens], dim=1) + self.positions
        tokens = tokens + self.attend(tokens)
        tokens = tokens + self.think(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens.mean(1) if self.mean else tokens[:, 0])


@small("vit", (96, 1, 4, 4))
def vit() -> nn.Module:
    return PatchViT()


@small("vit-mean-pool", (96, 1, 4, 4))
def vit_mean_pool() -> nn.Module:
    return PatchViT(mean=True)
