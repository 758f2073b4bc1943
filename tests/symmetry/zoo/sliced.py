"""Streams that are read by slices, and heads under norms: rotations of each part by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS, _TOKENS = (60, 5), (12, 4, 3)


class Parts(nn.Module):
    """A function of some linear maps and the input."""

    def __init__(self, function: Callable[[nn.ModuleDict, Tensor], Tensor], **sizes: tuple[int, int]) -> None:
        super().__init__()
        self.maps, self.function = nn.ModuleDict({k: nn.Linear(*size) for k, size in sizes.items()}), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.maps, x)


def length(x: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), eps=1e-20)


def _two_readers(m: nn.ModuleDict, a: Tensor, b: Tensor) -> Tensor:
    out: Tensor = m["first"](a) + torch.tanh(m["second"](b))
    return out


@small("slices-under-norms", _ROWS, "mse")
def slices_under_norms() -> nn.Module:
    """SO(2) × SO(3): one writer, two slices, each under a norm of its own."""

    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        h = m["write"](x)
        return _two_readers(m, length(h[..., :2]), length(h[..., 2:]))

    return Parts(forward, write=(5, 5), first=(2, 2), second=(3, 2))


@small("slices-of-a-normed-stream", _ROWS, "mse")
def slices_of_a_normed_stream() -> nn.Module:
    """One norm of the whole, whose slices are narrowed, and read by readers of their own."""

    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        h = length(m["write"](x))
        return _two_readers(m, h.narrow(-1, 0, 2), h.narrow(-1, 2, 3))

    return Parts(forward, write=(5, 5), first=(2, 2), second=(3, 2))


@small("slices-of-centred-channels", (60, 7), "mse")
def slices_of_centred_channels() -> nn.Module:
    """A residual stream written twice, cut into chunks under layer norms."""

    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        h = m["write"](x)
        h = h + m["out"](torch.tanh(m["mid"](functional.layer_norm(h, (6,), eps=1e-20))))
        a, b = (functional.layer_norm(t, (3,), eps=1e-20) for t in h.chunk(2, -1))
        return _two_readers(m, a, b)

    return Parts(forward, write=(7, 6), mid=(6, 2), out=(2, 6), first=(3, 2), second=(3, 2))


@small("slices-joined-before-a-reader", _ROWS, "mse")
def slices_joined_before_a_reader() -> nn.Module:
    """Two writers, concatenated under norms of their own, and one reader of both."""

    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        out: Tensor = m["first"](torch.cat([length(m["one"](x)), length(m["two"](torch.sin(x)))], -1))
        return out

    return Parts(forward, one=(5, 2), two=(5, 3), first=(5, 2))


@small("slices-every-other-channel", _ROWS, "mse")
def slices_every_other_channel() -> nn.Module:
    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        a, b = m["write"](x).unflatten(-1, (2, 2)).unbind(-1)
        return _two_readers(m, length(a), length(b))

    return Parts(forward, write=(5, 4), first=(2, 2), second=(2, 2))


@small("slices-that-overlap", _ROWS, "mse")
def slices_that_overlap() -> nn.Module:
    """The channel in the middle stands in both: what is left turns the two channels before it, and those behind."""

    def forward(m: nn.ModuleDict, x: Tensor) -> Tensor:
        h = m["write"](x)
        return _two_readers(m, length(h[..., :3]), length(h[..., 2:]))

    return Parts(forward, write=(5, 5), first=(3, 2), second=(3, 2))


def _scores(m: nn.ModuleDict, x: Tensor, heads: int) -> Tensor:
    """Attention over the inputs themselves, with norms of queries and keys; keys of one head serve all."""
    q = length(m["q"](x).unflatten(-1, (2, 2))).transpose(-2, -3)
    k = length(m["k"](x).unflatten(-1, (heads, 2))).transpose(-2, -3)
    out: Tensor = m["o"]((torch.softmax(q @ k.transpose(-1, -2), -1) @ x[:, None]).transpose(-2, -3).flatten(-2))
    return out


@small("heads-under-norms", _TOKENS, "mse")
def heads_under_norms() -> nn.Module:
    """A rotation of queries and keys for each head."""
    return Parts(lambda m, x: _scores(m, x, 2), q=(3, 4), k=(3, 4), o=(6, 2))


@small("heads-under-norms-with-one-key", _TOKENS, "mse")
def heads_under_norms_with_one_key() -> nn.Module:
    return Parts(lambda m, x: _scores(m, x, 1), q=(3, 4), k=(3, 2), o=(6, 2))


class Gained(nn.Module):
    """One norm, whose gains reach to both slices; ``taken``: each slice is multiplied by those that are its own."""

    def __init__(self, taken: bool) -> None:
        super().__init__()
        self.write, self.first, self.second = nn.Linear(5, 5), nn.Linear(2, 2), nn.Linear(3, 2)
        self.gains, self.taken = nn.Parameter(torch.zeros(5)), taken

    def forward(self, x: Tensor) -> Tensor:
        h, gains = length(self.write(x)), 1 + self.gains
        a, b = (h if self.taken else h * gains).split([2, 3], -1)
        if self.taken:
            a, b = gains[:2] * a, b * gains[2:]
        out: Tensor = self.first(a) + torch.tanh(self.second(b))
        return out


@small("slices-behind-gains", _ROWS, "mse")
def slices_behind_gains() -> nn.Module:
    return Gained(taken=False)


@small("slices-with-gains-of-their-own", _ROWS, "mse")
def slices_with_gains_of_their_own() -> nn.Module:
    return Gained(taken=True)
