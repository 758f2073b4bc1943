"""One matrix whose runs of rows read different streams: each run has columns of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS, _TOKENS = (40, 3), (12, 4, 3)


class Packed(nn.Module):
    """Two streams of two channels, and one matrix of which each run of rows reads one of them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
        self.packed, self.how = nn.Parameter(torch.zeros(5, 2)), how
        self.read, self.last = nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x), self.second(torch.sin(x))
        if self.how == "split":
            above, below = self.packed.split([2, 3])
        elif self.how == "overlapping":
            above, below = self.packed[:2], self.packed[1:4]
        else:
            above, below = self.packed[:2], self.packed[2:]
        if self.how == "one stream":
            other = one * torch.sin(x[:, :1])
        if self.how == "einsum":
            a, b = torch.einsum("oi,ni->no", above, one), torch.einsum("ni,oi->no", other, below)
        else:
            a, b = one @ above.T, other @ below.T
        out: Tensor = self.read(a) + self.last(torch.tanh(b))
        return out


for _how in ("split", "sliced", "einsum"):
    small(f"packed-rows-{_how}", _ROWS, "mse")(lambda how=_how: Packed(how))  # type: ignore[misc]


@small("packed-keys-of-another-stream", _TOKENS, "mse")
def packed_keys_of_another_stream() -> nn.Module:
    """Queries of one learned stream, keys and values of another, in one matrix without biases."""

    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
            self.attention = nn.MultiheadAttention(2, 1, bias=False, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.first(x[:, :2]), self.second(torch.sin(x))
            out: Tensor = self.attention(one, other, other, need_weights=False)[0]
            return torch.tanh(out)

    return Cross()


class Crossing(nn.Module):
    """Queries of one learned stream, keys and values of another, packed with their biases; ``how`` rows are told apart.

    A shift of each stream is answered by its own rows of the packed bias.
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second, self.how = nn.Linear(3, 2), nn.Linear(3, 2), how
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True) if how == "module" else None
        if self.attention is None:
            self.packed, self.out = nn.Linear(2, 6), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x[:, :2]), self.second(torch.sin(x))
        if self.attention is not None:
            return torch.tanh(self.attention(one, other, other, need_weights=False)[0])
        if self.how == "split":
            (w, u), (b, c) = self.packed.weight.split([2, 4]), self.packed.bias.split([2, 4])
            q, (k, v) = functional.linear(one, w, b), functional.linear(other, u, c).chunk(2, -1)
        else:
            parts = zip(self.packed.weight.chunk(3), self.packed.bias.chunk(3), (one, other, other), strict=True)
            q, k, v = (t @ w.T + b for w, b, t in parts)
        out: Tensor = torch.tanh(self.out(functional.scaled_dot_product_attention(q, k, v)))
        return out


for _how, _slow in (("module", False), ("split", True), ("chunks", True)):
    small(f"packed-biases-of-two-streams-{_how}", _TOKENS, "mse", slow=_slow)(lambda how=_how: Crossing(how))  # type: ignore[misc]
