"""Layers called more than once, and operations whose index tells channels apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import normal, register

_W = 3


class Reused(nn.Module):
    """Four square maps, each called wherever a formula likes."""

    def __init__(self, formula: Callable[[Reused, Tensor], Tensor], bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.w = (nn.Linear(_W, _W, bias=bias) for _ in range(4))
        self.norm = nn.LayerNorm(_W)
        self.head = nn.Linear(_W, 4)
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.formula(self, x))


def _attend(m: Reused, z: Tensor, value: nn.Module) -> Tensor:
    return torch.softmax(m.q(z) @ m.k(z).mT, -1) @ value(z)


def _repeated(function: Callable[[Reused, Tensor], Tensor], times: int = 2) -> Callable[[Reused, Tensor], Tensor]:
    def formula(m: Reused, z: Tensor) -> Tensor:
        for _ in range(times):
            z = function(m, z)
        return z

    return formula


_FORMULAS: dict[str, Callable[[Reused, Tensor], Tensor]] = {
    "sum of two uses": lambda m, x: torch.tanh(m.q(x)) + torch.tanh(m.q(m.v(x))),
    "product of two uses": lambda m, x: torch.tanh(m.q(x)) * torch.tanh(m.q(m.v(x))),
    "two uses inside": lambda m, x: torch.tanh(m.q(x) + m.q(m.v(x))),
    "difference of two uses": lambda m, x: torch.tanh(m.q(x) - m.q(m.v(x))),
    "twice in a row": lambda m, x: torch.tanh(m.q(m.q(x))),
    "around another": lambda m, x: torch.tanh(m.q(m.v(m.q(x)))),
    "both inputs shifted": lambda m, x: torch.tanh(m.q(m.v(x))) + torch.tanh(m.q(m.v(x.flip(0)))),
    "two inputs, one answer": lambda m, x: torch.tanh(m.q(m.v(x))) + torch.tanh(m.q(m.w(x))),
    "one input, two answers": lambda m, x: torch.tanh(m.q(m.v(x))) + torch.tanh(m.k(m.v(x))),
    "one input, an answer and none": lambda m, x: torch.tanh(m.q(m.v(x))) + torch.tanh(m.v(x)),
    "one input, through a skip": lambda m, x: torch.tanh(m.q(m.v(x)) + m.v(x)),
    "residual attention twice": _repeated(lambda m, z: z + _attend(m, z, m.v)),
    "attention twice, two values": lambda m, z: _attend(m, z + _attend(m, z, m.v), m.w),
    "attention twice, normed": _repeated(lambda m, z: z + _attend(m, m.norm(z), m.v)),
    "attention, one map": lambda m, z: torch.softmax(m.q(z) @ m.q(z).mT, -1) @ m.q(z),
    "queries twice": lambda m, z: (
        torch.softmax(m.q(z) @ m.k(z).mT, -1) @ z + torch.softmax(m.q(m.v(z)) @ m.k(z).mT, -1) @ z
    ),
    "keys twice": lambda m, z: (
        torch.softmax(m.q(z) @ m.k(z).mT, -1) @ z + torch.softmax(m.q(z) @ m.k(m.v(z)).mT, -1) @ z
    ),
    "recurrence": _repeated(lambda m, z: torch.tanh(m.q(z) + m.v(z.flip(-1))), 3),
    "rectified recurrence": _repeated(lambda m, z: torch.relu(m.q(z)), 3),
    "gated recurrence": _repeated(lambda m, z: torch.sigmoid(m.k(z)) * z + torch.relu(m.v(z))),
    "linear recurrence": _repeated(lambda m, z: m.q(z) + m.v(z)),
    "equilibrium": _repeated(lambda m, z: torch.tanh(m.q(z)) / 2 + m.v(z) / 4, 5),
    "feed-forward twice": _repeated(lambda m, z: z + m.v(torch.relu(m.q(z)))),
    "autoencoder with tied weights": lambda m, x: torch.sigmoid(
        functional.linear(torch.relu(m.q(x)), m.q.weight.T, m.v.bias)
    ),
    "bias of another": lambda m, x: torch.tanh(functional.linear(m.v(x), m.q.weight, m.v.bias)),
    "weight of another": lambda m, x: torch.tanh(functional.linear(m.v(x), m.v.weight, m.q.bias)),
    "one bias twice": lambda m, x: torch.tanh(m.q(m.v(x)) + m.q.bias) if m.q.bias is not None else m.q(x),
    "norm twice": lambda m, x: m.norm(m.v(x)) * m.norm(m.w(x)),
    "norm of norm": lambda m, x: m.norm(torch.relu(m.norm(m.v(x)))),
    "same map of tokens and of means": lambda m, x: torch.tanh(m.q(m.v(x)) - m.q(x.mean(1, keepdim=True))),
    "cross attention with shared values": lambda m, z: (
        torch.softmax(m.q(z) @ m.k(m.w(z)).mT, -1) @ m.v(m.w(z)) + torch.softmax(m.k(z) @ m.q(m.w(z)).mT, -1) @ m.v(z)
    ),
}  # fmt: skip
for _name, _formula in _FORMULAS.items():
    for _bias in (True, False):
        if _bias or ("bias" not in _name and "tied" not in _name):
            register(f"reused: {_name}{'' if _bias else ', no biases'}", normal((2, 4, _W)))(
                lambda formula=_formula, bias=_bias: Reused(formula, bias)
            )


class Apart(nn.Module):
    """An operation between two linear maps that treats channels differently through an index or a mask."""

    def __init__(self, function: Callable[[Tensor], Tensor], bias: bool) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(4, 4, bias=bias), nn.Linear(4, 5, bias=bias)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.a(x)))


_STEPS = torch.randint(5, (3, 5, 4), generator=torch.Generator().manual_seed(2))
_ALIKE = _STEPS[..., :1].expand(-1, -1, 4)
_MASK = torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) > 0.5
_APART: dict[str, Callable[[Tensor], Tensor]] = {
    "gather by channel": lambda h: h.gather(1, _STEPS),
    "gather alike": lambda h: h.gather(1, _ALIKE),
    "take along by channel": lambda h: torch.take_along_dim(h, _STEPS, 1),
    "index by channel": lambda h: h[torch.arange(3)[:, None, None], _STEPS, torch.arange(4)],
    "index alike": lambda h: h[torch.arange(3)[:, None], _STEPS[..., 0]],
    "scatter by channel": lambda h: torch.zeros_like(h).scatter(1, torch.argsort(_STEPS, 1), h),
    "scatter alike": lambda h: torch.zeros_like(h).scatter(1, torch.argsort(_STEPS[..., :1], 1).expand(-1, -1, 4), h),
    "scatter add by channel": lambda h: torch.zeros_like(h).scatter_add(1, _STEPS, h),
    "put by channel": lambda h: torch.zeros_like(h).index_put(
        (torch.arange(3)[:, None, None], _STEPS, torch.arange(4)), h, accumulate=True
    ),
    "rolled by channel": lambda h: torch.stack([h[..., c].roll(c, 1) for c in range(4)], -1),
    "rolled alike": lambda h: h.roll(1, 1),
    "token shift of half the channels": lambda h: torch.cat([h[..., :2].roll(1, 1), h[..., 2:]], -1),
    "token shift in place": lambda h: torch.cat([functional.pad(h[..., :2], (0, 0, 1, -1)), h[..., 2:]], -1),
    "mask by channel": lambda h: h * _MASK,
    "mask alike": lambda h: h * _MASK[:, :1],
    "filled by channel": lambda h: h.masked_fill(_MASK, 0.0),
    "where by channel": lambda h: torch.where(_MASK, h, h.flip(1)),
    "decay by channel": lambda h: (h * torch.arange(1, 5)).cumsum(1),
    "depthwise filter": lambda h: functional.conv1d(
        h.mT, torch.arange(8, dtype=h.dtype).view(4, 1, 2), padding=1, groups=4
    ).mT,
    "the same filter for all": lambda h: functional.conv1d(
        h.mT, torch.arange(2, dtype=h.dtype).expand(4, 1, 2) + 1, padding=1, groups=4
    ).mT,
    "largest over tokens": lambda h: h.amax(1),
    "unfolded": lambda h: h.unfold(1, 2, 1).sum(-1),
    "cumulated from either side": lambda h: torch.cat([h[..., :2].cumsum(1), h[..., 2:].flip(1).cumsum(1).flip(1)], -1),
    "sorted over tokens": lambda h: h.sort(1)[0],
    "repeated by channel": lambda h: h.repeat_interleave(torch.tensor([1, 0, 2, 1]), -1),
    "diagonal blocks": lambda h: torch.block_diag(torch.ones(2, 2), torch.eye(2)).to(h) @ h[:, :4],
    "channels as tokens": lambda h: h[:, :4].mT + h[:, :4],
    "selected tokens by channel": lambda h: torch.stack([h[:, c, c] for c in range(4)], -1),
    "interpolated": lambda h: functional.interpolate(h.mT, size=3, mode="linear").mT,
    "dropped pattern": lambda h: h * torch.tensor([1.0, 0.0, 2.0, 2.0]).to(h),
}  # fmt: skip
for _name, _function in _APART.items():
    for _bias in (False, True):
        register(f"apart: {_name}{', biases' * _bias}", normal((3, 5, 4)))(
            lambda function=_function, bias=_bias: Apart(function, bias)
        )
