"""Attention whose keys and values are put together along tokens: caches, prefixes, memories, two sources."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_TOKENS = (16, 6, 4)  # the first four tokens are one source, the last two another


class Joined(nn.Module):
    """Two heads of two channels; what ``keys_and_values`` returns stands behind one another along tokens."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4, bias=bias) for _ in range(4))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 2)).transpose(1, 2)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        key, value = self.keys_and_values(x)
        scores = self.heads(self.q(x)) @ key.mT / 2
        return self.o((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class EmptyCache(Joined):
    """Behind a cache that holds nothing yet, as the first pass of a language model."""

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.heads(self.k(x)), self.heads(self.v(x))
        return torch.cat([key[:, :, :0], key], 2), torch.cat([value[:, :, :0], value], 2)


class Prefix(Joined):
    """Behind tokens that one table gives for the keys and values of all heads."""

    def __init__(self, bias: bool) -> None:
        super().__init__(bias)
        self.prefix = nn.Embedding(2, 8)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.prefix.weight.expand(len(x), 2, 8).chunk(2, -1)
        joined = (torch.cat([self.heads(p), self.heads(f(x))], 2) for p, f in zip(parts, (self.k, self.v), strict=True))
        key, value = joined
        return key, value


class TwoSources(Joined):
    """Keys and values of two sources, each by maps of its own."""

    def __init__(self, bias: bool) -> None:
        super().__init__(bias)
        self.other_k, self.other_v = (nn.Linear(4, 4, bias=bias) for _ in range(2))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        here, there = x[:, :4], x[:, 4:]
        key = torch.cat([self.heads(self.k(here)), self.heads(self.other_k(there))], 2)
        return key, torch.cat([self.heads(self.v(here)), self.heads(self.other_v(there))], 2)


class JointStreams(TwoSources):
    """Two streams that attend to one another, each with projections of its own, as in diffusion transformers."""

    def __init__(self, bias: bool) -> None:
        super().__init__(bias)
        self.other_q, self.other_o = (nn.Linear(4, 4, bias=bias) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        key, value = self.keys_and_values(x)
        query = torch.cat([self.heads(self.q(x[:, :4])), self.heads(self.other_q(x[:, 4:]))], 2)
        out = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        here, there = out.split([4, 2], 1)
        return torch.cat([self.o(here), self.other_o(there)], 1)


class Window(Joined):
    """Of old and new tokens only the last five, written as a list that is stacked."""

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = ([self.heads(f(x[:, t : t + 1])) for t in range(6)] for f in (self.k, self.v))
        return torch.cat(key[-5:], 2), torch.stack(value[1:], 2).squeeze(3)


for _kind in (EmptyCache, Prefix, TwoSources, JointStreams, Window):
    for _bias in (False, True):
        _name = "".join(f"-{c.lower()}" if c.isupper() else c for c in _kind.__name__)[1:]
        small(f"tokens-{_name}{'-biases' if _bias else ''}", _TOKENS, "output")(
            lambda kind=_kind, bias=_bias: kind(bias)  # type: ignore[misc]
        )
