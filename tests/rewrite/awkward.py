"""Networks in which a gain, a bias or a weight is used in a way that a rule for layers would overlook."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from .networks import GPTBlock, images, vectors

Make = Callable[[], tuple[nn.Module, Tensor]]


class Graph(nn.Module):
    """Modules by name, and a function of them."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _twice(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    h = h + m.b(m.n(h))
    out: Tensor = m.o(m.n(h + m.b(m.n(h))))
    return out


def _shown(m: nn.Module, x: Tensor) -> Tensor:
    h = m.n(m.a(x))
    return torch.cat([m.o(h), h], -1)


def _halves(m: nn.Module, x: Tensor) -> Tensor:
    h = m.n(m.a(x))
    return torch.cat([m.o(h[..., :3]), m.q(h[..., 3:])], -1)


def _two_norms(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    out: Tensor = m.o(m.n(h) + m.k(h * h))
    return out


def _experts(m: nn.Module, x: Tensor) -> Tensor:
    """Two of four experts for each example."""
    h = m.a(x)
    y = m.n(h)
    weights, chosen = torch.topk(functional.softmax(m.r(y), -1), 2, -1)
    inner = functional.silu(torch.einsum("bi,bkij->bkj", y, m.up.weight.view(4, 6, 7)[chosen]))
    out = torch.einsum("bkj,bkji->bki", inner, m.down.weight.view(4, 7, 6)[chosen])
    answer: Tensor = m.o(h + (weights[..., None] * out).sum(1))
    return answer


def _tokens(m: nn.Module, x: Tensor) -> Tensor:
    """A class token before the patches of an image."""
    y = m.p(x).flatten(2).transpose(1, 2)
    y = torch.cat([m.token.weight.expand(len(x), 1, 8), y], 1)
    out: Tensor = m.o(m.n(m.block(y))[:, 0])
    return out


def _linear(*sizes: int) -> list[nn.Module]:
    return [nn.Linear(a, b) for a, b in zip(sizes[::2], sizes[1::2], strict=True)]


def _graph(function: Callable[..., Tensor], batch: Tensor, **modules: nn.Module) -> Make:
    return lambda: (Graph(function, **modules), batch)


def _tied() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    return model, vectors(6)


a, b, o, q = _linear(3, 6, 6, 6, 6, 2, 3, 2)
wide = nn.Linear(3, 2)
NETWORKS: dict[str, Make] = {
    "a norm used three times": _graph(_twice, vectors(), a=a, n=nn.LayerNorm(6), b=b, o=o),
    "a norm whose output is shown": _graph(_shown, vectors(), a=a, n=nn.LayerNorm(6), o=o),
    "halves read apart": _graph(_halves, vectors(), a=a, n=nn.LayerNorm(6), o=q, q=wide),
    "two gains, one reader": _graph(_two_norms, vectors(), a=a, n=nn.RMSNorm(6), k=nn.RMSNorm(6), o=o),
    "experts behind a choice": _graph(
        _experts,
        vectors(),
        a=a,
        n=nn.RMSNorm(6),
        r=nn.Linear(6, 4),
        up=nn.Embedding(4, 42),
        down=nn.Embedding(4, 42),
        o=o,
    ),
    "a class token": _graph(
        _tokens,
        images(),
        p=nn.Conv2d(3, 8, 4, 4),
        token=nn.Embedding(1, 8),
        block=GPTBlock(),
        n=nn.LayerNorm(8),
        o=nn.Linear(8, 3),
    ),
    "a bias before padding": lambda: (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, padding=1)),
        images(),
    ),
    "a bias before no padding": lambda: (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)),
        images(),
    ),
    "groups": lambda: (nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 3)), images()),
    "weight norm": lambda: (
        nn.Sequential(weight_norm(nn.Linear(3, 6)), nn.LayerNorm(6), weight_norm(nn.Linear(6, 2))),
        vectors(),
    ),
    "a layer of torch, norms first": lambda: (
        nn.Sequential(nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, norm_first=True), nn.Linear(6, 2)),
        vectors(6),
    ),
    "a layer of torch, norms last": lambda: (
        nn.Sequential(nn.Linear(3, 6), nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0), nn.Linear(6, 2)),
        vectors(),
    ),
    "tied layers": _tied,
}
