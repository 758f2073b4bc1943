"""Mistakes that converters of checkpoints make, each on top of an exact conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tests.symmetry.families.spaces.networks import prepared, transformer
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Symmetries, find_symmetries

from .planting import planted, state_of

State = dict[str, Tensor]


class Experts(nn.Module):
    """A mixture of experts in a residual stream, every expert weighted by the router's softmax."""

    def __init__(self, width: int = 5, experts: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = (
            nn.Embedding(9, width),
            nn.RMSNorm(width),
            nn.Linear(width, 9, bias=False),
        )
        self.router = nn.Linear(width, experts, bias=False)
        self.first = nn.Parameter(torch.randn(experts, width, hidden))
        self.second = nn.Parameter(torch.randn(experts, hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        y = self.norm(x)
        hidden = functional.gelu(torch.einsum("bti,eih->bteh", y, self.first))
        each = torch.einsum("bteh,eho->bteo", hidden, self.second)
        x = x + torch.einsum("bte,bteo->bto", self.router(y).softmax(-1), each)
        out: Tensor = self.head(functional.rms_norm(x, x.shape[-1:]))
        return out


class Indexed(nn.Module):
    """Attention whose scores are weighted by those of a small indexer, in a residual stream."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = (
            nn.Embedding(9, width),
            nn.RMSNorm(width),
            nn.Linear(width, 9, bias=False),
        )
        self.q, self.k, self.v = (nn.Linear(width, 3, bias=False) for _ in range(3))
        self.indexer = nn.Linear(width, 2, bias=False)
        self.o = nn.Linear(3, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        y = self.norm(x)
        chosen = torch.relu(self.indexer(y)) @ torch.relu(self.indexer(y)).mT
        scores = self.q(y) @ self.k(y).mT + chosen
        x = x + self.o(scores.softmax(-1) @ self.v(y))
        out: Tensor = self.head(functional.rms_norm(x, x.shape[-1:]))
        return out


class OffsetNorm(nn.Module):
    """RMS norm with gain 1 + w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:]) * (1 + self.weight)


class Rotary(nn.Module):
    """One layer of rotary attention with two heads, pairs by halves of a head."""

    def __init__(self, width: int = 6, heads: int = 2, size: int = 8) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.embedding, self.norm, self.head = (
            nn.Embedding(9, width),
            nn.RMSNorm(width),
            nn.Linear(width, 9, bias=False),
        )
        self.q, self.k, self.v = (nn.Linear(width, heads * size, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * size, width, bias=False)

    def _turned(self, x: Tensor) -> Tensor:
        half, steps = self.size // 2, torch.arange(x.shape[-2], dtype=x.dtype)
        angles = steps[:, None] * 0.7 ** torch.arange(half, dtype=x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        y = self.norm(x)
        q, k, v = (m(y).unflatten(-1, (self.heads, self.size)).transpose(1, 2) for m in (self.q, self.k, self.v))
        scores = self._turned(q) @ self._turned(k).mT
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        out: Tensor = self.head(functional.rms_norm(x, x.shape[-1:]))
        return out


class Packed(nn.Module):
    """A layer-norm block with biases everywhere and a packed projection."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 5, 0.0, batch_first=True, norm_first=True)
        self.last, self.head = nn.LayerNorm(6), nn.Linear(6, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.last(self.layer(self.embedding(tokens))))
        return out


def tied() -> nn.Module:
    model = transformer(nn.RMSNorm)
    model[-1].weight = model[0].weight
    return model


def offset() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 5), OffsetNorm(5), Gated(5), nn.Linear(5, 9, bias=False))


class Gated(nn.Module):
    """A gated layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, 4), nn.Linear(width, 4), nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


@dataclass(frozen=True)
class Mistake:
    """A network, what is done to its exactly converted state, and the tensors that are wrong then.

    ``wrong``: each of the sets is a right answer, for two sides of one symmetry may equally well be wrong.
    """

    model: Callable[[], nn.Module]
    spoil: Callable[[State, State, Symmetries], None]  # the converted state in place; the one before; the symmetries
    wrong: tuple[frozenset[str], ...]

    def build(self, seed: int = 0) -> tuple[nn.Module, Any, State, State, State]:
        """The model, a batch, the state before, exactly converted, and spoilt."""
        model = prepared(self.model(), seed)
        batch = (torch.randint(7, (2, 5), generator=torch.Generator().manual_seed(seed)),)
        symmetries = find_symmetries(model, batch)
        before = state_of(model)
        exact = planted(symmetries, seed + 1).transform(before)
        spoilt = {name: value.clone() for name, value in exact.items()}
        self.spoil(spoilt, before, symmetries)
        return model, batch, before, exact, spoilt


def sets(*names: str) -> tuple[frozenset[str], ...]:
    """Sets of names separated by commas."""
    return tuple(frozenset(name.split(",")) for name in names)


def swap_rows(value: Tensor, order: list[int], size: int) -> Tensor:
    return value.unflatten(0, (-1, size))[torch.tensor(order)].flatten(0, 1)


def interleaved(value: Tensor, heads: int) -> Tensor:
    """Rows of each head from pairs by halves to neighbours."""
    return value.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(value.shape)


def _router(after: State, before: State, _: Symmetries) -> None:
    after["router.weight"] = before["router.weight"]


def _indexer(after: State, before: State, _: Symmetries) -> None:
    after["indexer.weight"] = before["indexer.weight"]


def _centred(after: State, _: State, __: Symmetries) -> None:
    after["0.weight"] = after["0.weight"] - after["0.weight"].mean(1, keepdim=True)


def _twice(after: State, _: State, symmetries: Symmetries) -> None:
    order = torch.tensor([1, 2, 3, 0])
    stream = symmetries.spaces[0]
    once = stream.transform(after, order)
    after |= once | {"0.weight": stream.transform(once, order)["0.weight"]}


def _bias_lost(after: State, _: State, __: Symmetries) -> None:
    after["layer.norm2.bias"] = torch.zeros(6, dtype=torch.float64)


def _offset(after: State, _: State, __: Symmetries) -> None:
    for name in ("2.gate.weight", "2.up.weight"):
        after[name] = after[name] * after["1.weight"]
    after["1.weight"] = torch.zeros(5, dtype=torch.float64)


def _heads(after: State, _: State, __: Symmetries) -> None:
    for name in ("k", "v"):
        key = f"1.attention.{name}.weight"
        after[key] = swap_rows(after[key], [1, 0], 3)


def _layout(after: State, _: State, __: Symmetries) -> None:
    for name in ("q.weight", "k.weight"):
        after[name] = interleaved(after[name], 2)


def _experts(after: State, _: State, __: Symmetries) -> None:
    for name in ("first", "second"):
        after[name] = after[name][[2, 0, 1]]


def _folded_twice(after: State, _: State, __: Symmetries) -> None:
    scale = torch.tensor([0.5, 2.0, 3.0, 0.25], dtype=torch.float64)
    after["1.norm2.weight"] = after["1.norm2.weight"] / scale
    after["1.gate.weight"] = after["1.gate.weight"] * scale
    after["1.up.weight"] = after["1.up.weight"] * scale * scale


def _packed(after: State, _: State, __: Symmetries) -> None:
    for name in ("weight", "bias"):
        key = f"layer.self_attn.in_proj_{name}"
        after[key] = after[key].unflatten(0, (3, 2, 3)).transpose(0, 1).reshape(after[key].shape)


def _square(after: State, _: State, __: Symmetries) -> None:
    key = "layer.self_attn.out_proj.weight"
    after[key] = after[key].mT.contiguous()


def _reordered(after: State, _: State, __: Symmetries) -> None:
    key = "layer.self_attn.in_proj_weight"
    after[key] = after[key].unflatten(0, (3, 2, 3)).transpose(0, 1).reshape(after[key].shape)


def _head_size(after: State, _: State, __: Symmetries) -> None:
    for name in ("q.weight", "k.weight"):  # to neighbours and back, with half the size of a head on the way
        after[name] = interleaved(after[name], 4)


MISTAKES = {
    "router left out": Mistake(Experts, _router, sets("router.weight")),
    "indexer left out": Mistake(Indexed, _indexer, sets("indexer.weight")),
    "embedding centred under RMS norm": Mistake(lambda: transformer(nn.RMSNorm), _centred, sets("0.weight")),
    "tied embedding rotated twice": Mistake(tied, _twice, sets("0.weight")),
    "layer-norm bias lost": Mistake(Packed, _bias_lost, sets("layer.norm2.bias", "layer.linear1.bias")),
    "offset gain folded without its offset": Mistake(offset, _offset, sets("1.weight")),
    "key and value heads permuted": Mistake(
        lambda: transformer(nn.RMSNorm, 4, 2),
        _heads,
        sets("1.attention.k.weight,1.attention.v.weight", "1.attention.q.weight,1.attention.o.weight"),
    ),
    "rotary layout interleaved": Mistake(Rotary, _layout, sets("q.weight,k.weight")),
    "experts reordered without the router": Mistake(Experts, _experts, sets("router.weight")),
    "scale folded twice": Mistake(lambda: transformer(nn.RMSNorm), _folded_twice, sets("1.up.weight")),
    "packed projection transposed": Mistake(
        Packed, _packed, sets("layer.self_attn.in_proj_weight,layer.self_attn.in_proj_bias")
    ),
    "square output projection transposed": Mistake(Packed, _square, sets("layer.self_attn.out_proj.weight")),
    "packed projection reordered but for its bias": Mistake(
        Packed, _reordered, sets("layer.self_attn.in_proj_weight", "layer.self_attn.in_proj_bias")
    ),
    "wrong head size": Mistake(Rotary, _head_size, sets("q.weight,k.weight")),
}
