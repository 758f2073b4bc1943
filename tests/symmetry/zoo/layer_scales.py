"""Weights that write what gains multiply, before a norm that forgets a shift of all channels: W + (1/λ)vᵀ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS, _TOKENS, _IMAGES = (60, 4), (12, 5, 4), (20, 2, 3, 3)
_EPS = 1e-20

Join = Callable[["Scaled", Tensor, Tensor], Tensor]
"""What a block makes of its stream and of what its hidden units are."""


class Scaled(nn.Module):
    """A stream to which a block adds what ``join`` makes of two writers and gains; ``behind`` is read by the head."""

    def __init__(self, join: Join, behind: Callable[[Scaled, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.embed, self.norm, self.hidden = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS), nn.Linear(4, 3)
        self.write, self.other = nn.Linear(3, 4), nn.Linear(3, 4, bias=False)
        self.lam, self.mu = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        self.join, self.behind = join, behind or (lambda block, x: functional.layer_norm(x, (4,), eps=_EPS))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        h = torch.tanh(self.hidden(self.norm(x)))
        out: Tensor = self.head(torch.tanh(self.behind(self, self.join(self, x, h))))
        return out


def read(module: nn.Module) -> nn.Module:
    """The module without training for parameters that do not reach its output."""
    named = dict(module.named_parameters())
    out = module(torch.randn(3, 4))
    reached = torch.autograd.grad(out.sum(), list(named.values()), allow_unused=True)
    for parameter, gradient in zip(named.values(), reached, strict=True):
        parameter.requires_grad_(gradient is not None)
    return module


_JOINS: dict[str, Join] = {
    "plain": lambda s, x, h: x + s.lam * s.write(h),
    "about-one": lambda s, x, h: x + (1 + s.lam) * s.write(h),
    "times-a-half": lambda s, x, h: x + s.write(h) * (0.5 * s.lam) * 0.3,
    "twice": lambda s, x, h: x + s.mu * (s.lam * s.other(h) + s.write.bias),
    "product-of-gains": lambda s, x, h: x + (s.mu * s.lam) * s.other(h),
    "around-the-stream": lambda s, x, h: s.lam * (s.write(h) + x),
    "one-for-two-writers": lambda s, x, h: s.lam * (s.write(h) + s.other(torch.sin(h))) - x,
    "two-for-two-writers": lambda s, x, h: x + s.lam * s.write(h) + s.mu * s.other(torch.sin(h)),
    "before-a-sum-of-halves": lambda s, x, h: x - s.lam * (0.5 * s.write(h) + 0.25 * s.other(h**2)),
    "times-a-number-of-the-data": lambda s, x, h: x + s.lam * (h.sum(-1, keepdim=True) * s.write(h)),
    "in-rows": lambda s, x, h: x + (s.lam[:, None] * s.write(h).mT).mT,
}  # fmt: skip
for _name, _join in _JOINS.items():
    small(f"layer-scale-{_name}", _ROWS, "mse", slow=_name not in ("plain", "twice", "around-the-stream"))(
        lambda join=_join: read(Scaled(join))  # type: ignore[misc]
    )

_BEHIND: dict[str, Callable[[Scaled, Tensor], Tensor]] = {
    "softmax": lambda s, x: functional.softmax(x, -1),
    "centred": lambda s, x: x - x.mean(-1, keepdim=True),
    "lengths": lambda s, x: functional.rms_norm(x, (4,), eps=_EPS),
    "read-beside": lambda s, x: functional.layer_norm(x, (4,), eps=_EPS) + s.mu * x,
    "rectified": lambda s, x: functional.layer_norm(torch.relu(x), (4,), eps=_EPS),
    "over-rows": lambda s, x: x - x.mean(0, keepdim=True),
    "part": lambda s, x: torch.cat([functional.layer_norm(x[:, :3], (3,), eps=_EPS), x[:, 3:]], 1),
}  # fmt: skip
for _name, _behind in _BEHIND.items():
    small(f"layer-scale-before-{_name}", _ROWS, "mse", slow=True)(
        lambda behind=_behind: read(Scaled(_JOINS["plain"], behind))  # type: ignore[misc]
    )

_NEARLY: dict[str, Join] = {
    "bent-writer": lambda s, x, h: x + s.lam * torch.sin(s.write(h)),
    "from-data": lambda s, x, h: x + (s.lam + x) * s.write(h),
    "writer-read-twice": lambda s, x, h: x + s.lam * s.write(h) + torch.sin(s.write(x[:, :3])),
    "writer-shared": lambda s, x, h: x + s.lam * s.other(h) + s.mu * s.other(torch.sin(h)),
    "product-read-twice": lambda s, x, h: (lambda y: x + s.lam * y + torch.sin(y))(s.write(h)),
    "one-gain": lambda s, x, h: x + s.lam[0] * s.write(h),
    "squared": lambda s, x, h: x + s.lam * s.write(h) ** 2,
}  # fmt: skip
for _name, _join in _NEARLY.items():
    small(f"layer-scale-nearly-{_name}", _ROWS, "mse", slow=_name != "writer-shared")(
        lambda join=_join: read(Scaled(join))  # type: ignore[misc]
    )


@small("layer-scale-of-convolutions", _IMAGES, "mse", slow=True)
def layer_scale_of_convolutions() -> nn.Module:
    """A convolution, gains and a norm over channels, as in ConvNeXt."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.write, self.lam = nn.Conv2d(2, 4, 2), nn.Conv2d(4, 4, 1), nn.Parameter(torch.zeros(4))
            self.norm, self.head = nn.LayerNorm(4, eps=_EPS), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.stem(x))
            x = x + self.lam.view(1, -1, 1, 1) * self.write(torch.sin(x))
            out: Tensor = self.head(torch.tanh(self.norm(x.permute(0, 2, 3, 1))).mean((1, 2)))
            return out

    return Block()


@small("layer-scale-of-attention", _TOKENS, "mse", slow=True)
def layer_scale_of_attention() -> nn.Module:
    """The output map of attention, which has a bias; values have one, too, which that takes back."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
            self.v, self.o, self.lam = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
            self.norm, self.head = nn.LayerNorm(4, eps=_EPS), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.embed(x))
            q, k, v = (m(x).unflatten(-1, (2, 2)).transpose(1, 2) for m in (self.q, self.k, self.v))
            mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            out: Tensor = self.head(torch.tanh(self.norm(x + self.lam * self.o(mixed))).mean(1))
            return out

    return Block()


@small("layer-scale-before-a-group-norm", (60, 4), "mse", slow=True)
def layer_scale_before_a_group_norm() -> nn.Module:
    """Each group of channels may shift by itself."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.write, self.lam = nn.Linear(4, 6), nn.Linear(6, 6), nn.Parameter(torch.zeros(6))
            self.norm, self.head = nn.GroupNorm(2, 6, eps=_EPS), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.embed(x))
            out: Tensor = self.head(torch.tanh(self.norm(h + self.lam * self.write(torch.sin(h)))))
            return out

    return Block()
