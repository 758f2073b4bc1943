"""Tensors cut and joined where the data decide: the last of the marked tokens, rows sorted by their expert."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network

Marked = Callable[[Tensor, Tensor], Tensor]
Routed = Callable[["Sorted", Tensor, list[int]], Tensor]


class Last(nn.Module):
    """What is read of the tokens that are marked, of which each text has as many."""

    def __init__(self, read: Marked) -> None:
        super().__init__()
        self.a, self.b, self.read = nn.Linear(3, 4), nn.Linear(4, 2), read

    def forward(self, x: Tensor, marks: Tensor) -> Tensor:
        return self.b(self.read(torch.relu(self.a(x)), marks))  # type: ignore[no-any-return]


def _marked(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 5, 3, generator=generator, dtype=torch.float64)
    places = torch.rand(16, 5, generator=generator).argsort(-1)
    return x, places < 2


LAST: dict[str, Marked] = {
    "view": lambda h, marks: h[marks, :].view(h.shape[0], -1, h.shape[-1])[:, -1, :],
    "unflatten": lambda h, marks: torch.unflatten(h[marks], 0, (len(h), -1))[:, -1],
    "mean": lambda h, marks: h[marks].reshape(len(h), -1, 4).mean(1),
    "transposed": lambda h, marks: h[marks].T.reshape(4, len(h), -1)[..., 0].T,
}


class Sorted(nn.Module):
    """Rows sorted by the expert that the data choose, each run through matrices of its own."""

    def __init__(self, experts: Routed) -> None:
        super().__init__()
        self.up, self.down = (nn.Parameter(torch.randn(3, *sizes)) for sizes in ((6, 4), (4, 3)))
        self.head, self.experts = nn.Linear(4, 5), experts

    def forward(self, x: Tensor) -> Tensor:
        chosen = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        order, sizes = chosen.argsort(), torch.bincount(chosen, minlength=3).tolist()
        return self.head(self.experts(self, x[order], sizes))[order.argsort()]  # type: ignore[no-any-return]


def _products(rows: Sequence[Tensor], weights: Tensor) -> Tensor:
    return torch.cat([functional.linear(part, weight) for part, weight in zip(rows, weights, strict=False)])


def _gated(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    gate, up = _products(torch.split(x, sizes), m.up).chunk(2, -1)
    return _products(torch.split(functional.silu(gate) * up, sizes, dim=0), m.down)


def _beside_the_whole(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    """A product with as many rows as went in, which the joined parts have only in sum."""
    h = torch.relu(_products(torch.split(x, sizes), m.up)[:, :3])
    return _products(torch.split(h, sizes), m.down) * x.sum(-1, keepdim=True)


def _in_columns(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    h = torch.split(torch.relu(_products(torch.split(x, sizes), m.up).T[:3]), sizes, dim=1)
    return torch.cat([weight @ part for weight, part in zip(m.down, h, strict=True)], 1).T


def _in_another_order(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    """Parts of other lengths than those that the second matrices read: rows of several experts may meet one."""
    h = _products(torch.split(x, sizes)[::-1], m.up)[:, :3]
    return _products(torch.split(torch.relu(h), sizes), m.down)


def _in_thirds(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    return _products(torch.relu(_products(torch.split(x, sizes), m.up)[:, :3]).chunk(3), m.down)


def _two_together(m: Sorted, x: Tensor, sizes: list[int]) -> Tensor:
    h = torch.relu(_products(torch.split(x, sizes), m.up)[:, :3])
    return _products(torch.split(h, [sizes[0] + sizes[1], sizes[2]]), m.down)


SORTED: dict[str, Routed] = {
    "gated": _gated,
    "beside the whole": _beside_the_whole,
    "in columns": _in_columns,
    "in another order": _in_another_order,
    "in thirds": _in_thirds,
    "two together": _two_together,
}
_BLOCK_LOST = ("in another order", "in thirds", "two together")  # of which diagonal symmetries alone are complete


def _rows(generator: torch.Generator) -> tuple[Tensor]:
    return (torch.randn(30, 4, generator=generator, dtype=torch.float64),)


def _cases() -> list[object]:
    last = [("last", Network(name, Last(read).double(), _marked)) for name, read in LAST.items()]
    runs = [("sorted", Network(name, Sorted(experts).double(), _rows)) for name, experts in SORTED.items()]
    default = ("view", "in another order")
    return [
        pytest.param(network, marks=() if network.name in default else pytest.mark.slow, id=f"{kind}, {network.name}")
        for kind, network in (*last, *runs)
    ]


@pytest.mark.parametrize("network", _cases())
def test_parts_as_long_as_the_data_say(network: Network) -> None:
    """Each expert's units scale by themselves where its rows are read again, and all alike where they need not be."""
    found = find_symmetries(network.module, network.batch())
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert not verdict.unknown, verdict
    assert verdict.equal, verdict
    assert verdict.complete or network.name in _BLOCK_LOST, verdict


class Filled(nn.Module):
    """The marked tokens of one text, filled up to six by the first of them, and read token by token."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor, marks: Tensor) -> Tensor:
        kept = torch.relu(self.a(x))[marks]
        if not isinstance(kept.shape[0], int):
            torch._check(kept.shape[0] < 6)
        filling = kept[:1].expand(6 - kept.shape[0], 4)
        return self.c(torch.tanh(self.b(torch.cat([kept, filling]).view(6, 4))))  # type: ignore[no-any-return]


def test_what_is_left_of_a_number_is_a_size() -> None:
    """Six less the marked tokens: no stand-in of a size may make the search raise, nor find what does not hold."""

    def drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        marks = torch.rand(9, generator=generator).argsort() < 3
        return torch.randn(9, 3, generator=generator, dtype=torch.float64), marks

    network = Network("filled", Filled().double(), drawn)
    verdict = judge(network, find_symmetries(network.module, network.batch()))
    assert verdict.sound, verdict
    assert verdict.equal or verdict.unknown, verdict
