"""Small transformers: a GPT on token sequences and a ViT on images, both pre-norm with GELU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.experiments.models.layers import image_shape


class SelfAttention(nn.Module):
    """softmax(QKᵀ/√d)V for several heads, with an output projection; causal on request."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.heads = heads
        self.causal = causal

    def forward(self, inputs: Tensor) -> Tensor:
        batch, length, width = inputs.shape
        shape = (batch, length, self.heads, width // self.heads)
        query, key, value = (
            projection(inputs).reshape(shape).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        result: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.attention(self.norm1(inputs))
        result: Tensor = inputs + self.mlp(self.norm2(inputs))
        return result


class GPT(nn.Module):
    """Decoder-only language model: token and position embeddings, causal blocks, norm, untied head."""

    def __init__(self, length: int, vocabulary: int, *, width: int = 32, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.token(tokens) + self.position[: tokens.shape[1]]
        result: Tensor = self.head(self.norm(self.blocks(hidden)))
        return result


class ViT(nn.Module):
    """Vision transformer: patches by one strided convolution, learned positions, mean over tokens."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        patch: int,
        width: int = 32,
        depth: int = 2,
        heads: int = 2,
    ) -> None:
        super().__init__()
        channels, height, width_pixels = input_shape
        tokens = (height // patch) * (width_pixels // patch)
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.patches(images).flatten(2).transpose(1, 2) + self.position
        result: Tensor = self.head(self.norm(self.blocks(hidden)).mean(1))
        return result


def gpt(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """A two-block GPT, 32 wide, on sequences of `input_shape = (length,)` with `classes` tokens."""
    if batch_norm:
        raise ValueError("gpt has layer norms; there is no 'gpt-bn', use 'gpt'")
    if len(input_shape) != 1:
        raise ValueError(f"gpt takes token sequences: input_shape must be (length,), got {input_shape}")
    return GPT(input_shape[0], classes)


def vit(input_shape: tuple[int, ...], classes: int, *, batch_norm: bool) -> nn.Module:
    """A two-block ViT, 32 wide, with patches of an eighth of the image (at least 2 pixels)."""
    if batch_norm:
        raise ValueError("vit has layer norms; there is no 'vit-bn', use 'vit'")
    shape = image_shape(input_shape, "vit")
    return ViT(shape, classes, patch=max(2, shape[1] // 8))
