"""Shifts that pass several maps before a bias answers them, kernels in groups, and what norms and softmax hide."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS, _TOKENS = (60, 4), (12, 5, 4)
_EPS = 1e-20


class Attention(nn.Module):
    """One head; ``biased`` names the maps with a bias."""

    def __init__(self, biased: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4, bias=name in biased) for name in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        scores = functional.softmax(self.q(x) @ self.k(x).transpose(-1, -2), -1)
        out: Tensor = self.o(scores @ self.v(x))
        return out


def _behind_norm(biased: str) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4, eps=_EPS), Attention(biased), nn.Tanh(), nn.Linear(4, 3)
    )


@small("keys-without-bias-behind-a-norm", _TOKENS, "mse")
def keys_without_bias_behind_a_norm() -> nn.Module:
    """A shear of the key map adds one vector to all keys, which softmax forgets."""
    return _behind_norm("qvo")


@small("keys-with-bias-behind-a-norm", _TOKENS, "mse")
def keys_with_bias_behind_a_norm() -> nn.Module:
    return _behind_norm("qkvo")


@small("two-maps-before-a-bias", _ROWS, "mse")
def two_maps_before_a_bias() -> nn.Module:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
            self.c, self.d = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.d(torch.tanh(self.c(self.b(self.a(x)) + torch.sin(x))))
            return out

    return Chain()


@small("values-before-a-later-bias", _TOKENS, "mse")
def values_before_a_later_bias() -> nn.Module:
    """The shift of the values passes the output map, which has no bias, and one more."""
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), Attention("qkv"), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))


@small("gains-before-a-bias", _ROWS, "mse")
def gains_before_a_bias() -> nn.Module:
    """A layer scale between the bias that is shifted and the map whose bias answers."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.scale = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.sin(x) + self.scale * self.b(torch.tanh(self.a(x)))
            out: Tensor = self.d(torch.tanh(self.c(h)))
            return out

    return Scaled()


class Convolutions(nn.Module):
    """Two convolutions in a row between nonlinear maps."""

    def __init__(self, first: nn.Module, second: nn.Module, embed: nn.Module) -> None:
        super().__init__()
        self.embed, self.first, self.second, self.last = embed, first, second, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.second(self.first(torch.tanh(self.embed(x)))))
        out: Tensor = self.last(h.flatten(2).mean(-1))
        return out


@small("kernels-in-groups", (12, 2, 4, 4), "mse")
def kernels_in_groups() -> nn.Module:
    """GL(2) for each group, and biases that are answered group by group."""
    return Convolutions(nn.Conv2d(4, 4, 2, groups=2), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(2, 4, 1))


@small("kernels-in-groups-of-one-dimension", (20, 2, 6), "mse")
def kernels_in_groups_of_one_dimension() -> nn.Module:
    return Convolutions(nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(4, 4, 2, groups=2), nn.Conv1d(2, 4, 1))


@small("kernel-before-kernels-in-groups", (20, 2, 6), "mse")
def kernel_before_kernels_in_groups() -> nn.Module:
    return Convolutions(nn.Conv1d(4, 4, 2), nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(2, 4, 1))


class Heads(nn.Module):
    """Attention behind a norm with a gain and a bias, in one packed map without a bias; ``how`` it is taken apart."""

    def __init__(self, how: str, answers: bool = True) -> None:
        super().__init__()
        self.write, self.norm, self.how = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS), how
        self.packed, self.out = nn.Linear(4, 12, bias=False), nn.Linear(4, 4, bias=answers)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.write(x)))
        if self.how == "einsum":
            q, k, v = torch.einsum("bti,phci->pbhtc", h, self.packed.weight.view(3, 2, 2, 4))
        elif self.how == "rows":
            q, k, v = (functional.linear(h, w).unflatten(-1, (2, 2)).transpose(1, 2) for w in self._rows())
        else:
            q, k, v = self.packed(h).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = torch.tanh(self.out(mixed.transpose(1, 2).flatten(2)))
        return out

    def _rows(self) -> tuple[Tensor, ...]:
        return self.packed.weight.chunk(3)


@small("packed-heads-without-biases-behind-a-norm", _TOKENS, "mse")
def packed_heads_without_biases_behind_a_norm() -> nn.Module:
    """Keys may shift alike; so may values, and the bias behind the heads takes it back."""
    return Heads("whole")


@small("packed-heads-in-one-sum-behind-a-norm", _TOKENS, "mse", slow=True)
def packed_heads_in_one_sum_behind_a_norm() -> nn.Module:
    return Heads("einsum")


@small("packed-heads-row-by-row-behind-a-norm", _TOKENS, "mse", slow=True)
def packed_heads_row_by_row_behind_a_norm() -> nn.Module:
    return Heads("rows")


@small("packed-heads-without-any-bias-behind-a-norm", _TOKENS, "mse", slow=True)
def packed_heads_without_any_bias_behind_a_norm() -> nn.Module:
    return Heads("whole", answers=False)


@small("multi-head-module-without-biases-behind-a-norm", _TOKENS, "mse", slow=True)
def multi_head_module_without_biases_behind_a_norm() -> nn.Module:
    class Modular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS)
            self.attention = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(torch.tanh(self.write(x)))
            return torch.tanh(self.attention(h, h, h, need_weights=False)[0])

    return Modular()


@small("two-maps-behind-a-norm", _ROWS, "mse", slow=True)
def two_maps_behind_a_norm() -> nn.Module:
    """What the first, without a bias, adds to its outputs the bias of the second takes back."""
    return nn.Sequential(
        nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4, eps=_EPS), nn.Linear(4, 3, bias=False),
        nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2),
    )  # fmt: skip


@small("a-kernel-behind-a-norm", (20, 4, 4), "mse")
def a_kernel_behind_a_norm() -> nn.Module:
    """Each tap takes a shear of its own."""

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.norm = nn.Conv1d(4, 4, 1), nn.LayerNorm(4, eps=_EPS)
            self.kernel, self.last = nn.Conv1d(4, 3, 2), nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(torch.tanh(self.write(x)).mT).mT
            out: Tensor = self.last(torch.tanh(self.kernel(h)).flatten(1))
            return out

    return Convolved()


class Behind(nn.Module):
    """A map without a bias behind ``first``, before a norm that forgets what all channels have in common."""

    def __init__(self, first: nn.Module, inner: int, norm: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm, self.first = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS), first
        self.map, self.last, self.head = nn.Linear(inner, 4, bias=False), norm, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x))
        out: Tensor = self.head(torch.tanh(self.last(h + self.map(self.first(self.norm(h))))))
        return out


@small("a-map-to-be-inverted", _ROWS, "mse")
def a_map_to_be_inverted() -> nn.Module:
    """One vector of constants that the first map may add becomes the same for all channels."""
    return Behind(nn.Linear(4, 4, bias=False), 4, nn.LayerNorm(4, eps=_EPS))


@small("a-wide-map-to-be-inverted", _ROWS, "mse", slow=True)
def a_wide_map_to_be_inverted() -> nn.Module:
    return Behind(nn.Linear(4, 6, bias=False), 6, nn.LayerNorm(4, eps=_EPS))


@small("a-map-too-narrow-to-be-inverted", _ROWS, "mse")
def a_map_too_narrow_to_be_inverted() -> nn.Module:
    """Three numbers do not make four channels alike, nor does the shift of the norm that passes them."""
    return Behind(nn.Linear(4, 3, bias=False), 3, nn.LayerNorm(4, eps=_EPS))


@small("a-map-before-lengths", _ROWS, "mse", slow=True)
def a_map_before_lengths() -> nn.Module:
    return Behind(nn.Linear(4, 4, bias=False), 4, nn.RMSNorm(4, eps=_EPS))


@small("values-to-be-inverted", _TOKENS, "mse", slow=True)
def values_to_be_inverted() -> nn.Module:
    return Behind(Attention(""), 4, nn.LayerNorm(4, eps=_EPS))


@small("values-with-a-bias-to-be-inverted", _TOKENS, "mse", slow=True)
def values_with_a_bias_to_be_inverted() -> nn.Module:
    return Behind(Attention("v"), 4, nn.LayerNorm(4, eps=_EPS))
