"""Gains that are stored as what is added to a constant, in the ways in which models write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS = (96, 4)
_EPS = 1e-20


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _EPS)


class GainAboutOne(nn.Module):
    """Gemma, Qwen3-Next: x̂·(1 + w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return _rms(x) * (1.0 + self.weight)


@small("gain-about-one", _ROWS)
def gain_about_one() -> nn.Module:
    """Two layers read the stream behind the norm."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(4, 5), GainAboutOne(5)
            self.gate, self.up, self.down = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.first(x))
            return self.down(functional.silu(self.gate(h)) * self.up(h))

    return Gated()


@small("layer-norm-about-one", _ROWS)
def layer_norm_about_one() -> nn.Module:
    """NeMo's LayerNorm1P: the gain is handed to the fused norm with one added to it."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
            self.weight, self.bias = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(5))

        def forward(self, x: Tensor) -> Tensor:
            h = functional.layer_norm(torch.tanh(self.first(x)), (5,), self.weight + 1, self.bias, _EPS)
            return self.last(torch.relu(h))

    return Centred()


@small("gain-subtracted-from-two", _ROWS)
def gain_subtracted_from_two() -> nn.Module:
    """x̂·(2 - w/2), in the order number, parameter; the reader is applied as a matrix product."""

    class Reflected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight = nn.Linear(4, 5), nn.Parameter(torch.zeros(5))
            self.last = nn.Parameter(torch.zeros(5, 3))

        def forward(self, x: Tensor) -> Tensor:
            return (_rms(torch.sigmoid(self.first(x))) * (2 - 0.5 * self.weight)) @ self.last

    return Reflected()


@small("gain-about-a-buffer", _ROWS)
def gain_about_a_buffer() -> nn.Module:
    """x̂·(c + w) with a vector c of the model."""

    class Based(nn.Module):
        base: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.weight = nn.Linear(4, 5), nn.Linear(5, 3), nn.Parameter(torch.zeros(5))
            self.register_buffer("base", torch.tensor([1.0, -2.0, 0.5, 3.0, 0.25]))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(_rms(torch.tanh(self.first(x))) * (self.base * 2 + self.weight))

    return Based()


@small("gain-as-residual", _ROWS)
def gain_as_residual() -> nn.Module:
    """x - x·w/2, and x + w·x by addcmul."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 3)
            self.w, self.v = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x))
            h = torch.tanh(self.middle(h - 0.5 * h * self.w))
            return self.last(torch.addcmul(h, self.v, h))

    return Residual()


@small("modulation", _ROWS)
def modulation() -> nn.Module:
    """DiT: x̂·(1 + scale) + shift, scale and shift parts of what one layer makes of a condition."""

    class Modulated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.condition = nn.Linear(3, 4), nn.Linear(2, 12)
            self.hidden, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x, c = x[:, :3], x[:, 3:].square()
            shift, scale, gate = self.condition(functional.silu(torch.cat([c, c - 1], -1))).chunk(3, dim=1)
            h = functional.layer_norm(torch.tanh(self.first(x)), (4,), eps=_EPS)
            return self.last(torch.tanh(self.hidden(gate * (h * (1 + scale) + shift))))

    return Modulated()


@small("modulation-by-class", (24, 3))
def modulation_by_class() -> nn.Module:
    """A conditional batch norm: gains and shifts are rows of tables that a class picks."""

    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)
            self.gain, self.shift = nn.Embedding(3, 4), nn.Embedding(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            classes = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
            h = functional.layer_norm(torch.tanh(self.first(x)), (4,), eps=_EPS)
            return self.last(torch.relu((self.gain(classes) + 1) * h + self.shift(classes)))

    return Conditional()


@small("modulation-with-table", _ROWS)
def modulation_with_table() -> nn.Module:
    """PixArt: a table of the block is added to what the condition gives, one of them holds the constant."""

    class Tabled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.condition, self.last = nn.Linear(3, 4), nn.Linear(1, 8), nn.Linear(4, 3)
            self.table = nn.Parameter(torch.zeros(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            made = self.condition(torch.sigmoid(x[:, 3:])).reshape(-1, 2, 4)
            shift, scale = (self.table[None] + made).unbind(1)
            h = functional.layer_norm(torch.tanh(self.first(x[:, :3])), (4,), eps=_EPS)
            return self.last(torch.relu(h * (1 + scale) + shift))

    return Tabled()


@small("spatial-modulation", (16, 2, 4, 4))
def spatial_modulation() -> nn.Module:
    """SPADE: the gain at each place is a convolution of a map, with one added."""

    class Spatial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gain, self.shift = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)
            self.last = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x[:, :1]))
            h = torch.relu(h * (1 + self.gain(x[:, 1:])) + self.shift(x[:, 1:]))
            return self.last(h.mean((2, 3)))

    return Spatial()


@small("constant-before-relu", _ROWS)
def constant_before_relu() -> nn.Module:
    """A number that is added before a rectifier is part of the bias."""

    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(x) + 0.5))

    return Offset()


@small("norms-about-one-of-queries-and-keys", (16, 4, 4))
def norms_about_one_of_queries_and_keys() -> nn.Module:
    """Gemma 3: both are normalised with gains about one, which two heads share."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(4, 4, bias=False) for _ in range(4))
            self.q_norm, self.k_norm = GainAboutOne(2), GainAboutOne(2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (f(x).reshape(*x.shape[:2], 2, 2).transpose(1, 2) for f in (self.q, self.k, self.v))
            out = functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
            return self.o(out.transpose(1, 2).reshape(x.shape))

    return Attention()


@small("gain-about-one-used-twice", _ROWS)
def gain_about_one_used_twice() -> nn.Module:
    """One norm before two layers in a row: both read it, and each use adds one anew."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
            self.norm = GainAboutOne(5)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.a(self.norm(torch.tanh(self.first(x)))))
            return self.b(_rms(h) * (torch.ones_like(h) + self.norm.weight))

    return Twice()


@small("gain-about-one-and-zero", _ROWS)
def gain_about_one_and_zero() -> nn.Module:
    """One vector is read with one added and without: no origin serves both."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)
            self.weight = nn.Parameter(torch.zeros(5))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x))
            return torch.tanh(self.a(h * (1 + self.weight))) + self.b(torch.tanh(h * self.weight))

    return Both()


@small("gain-about-one-without-reader", _ROWS)
def gain_about_one_without_reader() -> nn.Module:
    """A modulation without a bias has nothing to hold its constant."""

    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.scale, self.last = nn.Linear(3, 4), nn.Linear(1, 4, bias=False), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x[:, :3]))
            return self.last(h * (1 + self.scale(torch.sigmoid(x[:, 3:]))))

    return Loose()
