"""Channels that zeros of a buffer end, wherever they stand: all that made and read them is found, with the buffer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network, prepared

Between = Callable[["_Masked", Tensor], Tensor]
KEPT = (1.0, 0.0, 1.0, 0.0, 1.0)


class _Masked(nn.Module):
    """What `how` makes of five channels and the buffer stands between two maps; a branch may be beside it."""

    def __init__(self, how: Between, mask: Tensor, *, beside: bool) -> None:
        super().__init__()
        self.how, self.beside = how, beside
        self.read, self.write = nn.Linear(4, 5), nn.Linear(5, 6)
        self.norm = nn.LayerNorm(5) if how is HOWS["after a norm"] else None
        self.other = nn.Linear(4, 5) if beside else None
        self.register_buffer("mask", mask.double())

    def normed(self, h: Tensor) -> Tensor:
        assert self.norm is not None
        out: Tensor = self.norm(h)
        return out

    def forward(self, x: Tensor) -> Tensor:
        h = self.how(self, self.read(x))
        out: Tensor = self.write(h if self.other is None else h + torch.relu(self.other(x)))
        return out


HOWS: dict[str, Between] = {
    "after relu": lambda net, h: torch.relu(h) * net.mask,
    "before relu": lambda net, h: torch.relu(h * net.mask),
    "after tanh": lambda net, h: net.mask * torch.tanh(h),
    "after a norm": lambda net, h: torch.relu(net.normed(h) * net.mask),
    "filled": lambda net, h: torch.relu(h).masked_fill(net.mask == 0, 0.0),
    "chosen": lambda net, h: torch.where(net.mask > 0, torch.relu(h), 0.0),
    "diagonal": lambda net, h: torch.relu(h) * net.mask.reshape(1, 5),
    "twice": lambda net, h: torch.relu(torch.relu(h) * net.mask) * net.mask,
    "einsum": lambda net, h: torch.einsum("bc,c->bc", torch.relu(h), net.mask),
}


def _network(module: nn.Module, *shape: int) -> Network:
    return Network(
        "", prepared(module), lambda g: (torch.randn(60, *shape, generator=g, dtype=torch.float64),), "output"
    )


MISSED = "zeros beside channels that do not scale are not let scale, although a sum with others might"
CASES = [(how, beside) for how in HOWS for beside in (False, True) if (how, beside) != ("after a norm", True)]


@pytest.mark.parametrize(
    ("how", "beside"),
    [
        pytest.param(*case, marks=pytest.mark.xfail(strict=True, reason=MISSED) if case == ("after tanh", True) else ())
        for case in CASES
    ],
)
def test_masked_channels(how: str, beside: bool) -> None:
    network = _network(_Masked(HOWS[how], torch.tensor(KEPT), beside=beside), 4)
    found = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, found)
    assert verdict.sound
    assert verdict.complete
    silent = [family for family in found if family.kind == "translation" and "read.bias" in family.parameters]
    assert silent or how == "after a norm"
    assert all("mask keeps its zeros" in family.requires for family in silent)


@pytest.mark.parametrize("mask", [torch.zeros(5), torch.zeros(())], ids=["every channel", "one number"])
def test_a_branch_that_is_switched_off(mask: Tensor) -> None:
    network = _network(_Masked(HOWS["after relu"], mask, beside=True), 4)
    verdict = judge(network, found := find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound
    assert verdict.complete
    assert found.count() == {"translation": 25, "scale": 0, "rescale": 5, "linear": 0}


@pytest.mark.parametrize("mask", [(1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 1e-300, 1.0, 1.0, 1.0)])
def test_small_numbers_are_no_zeros(mask: tuple[float, ...]) -> None:
    network = _network(_Masked(HOWS["after tanh"], torch.tensor(mask, dtype=torch.float64), beside=False), 4)
    assert find_symmetries(network.module, network.batch(), network.loss_fn).count()["translation"] == 0


def _warming(net: _Masked, h: Tensor) -> Tensor:
    gate = net.mask.clone()
    net.mask.add_(0.1)
    return torch.relu(h) * gate


def _replaced(net: _Masked, h: Tensor) -> Tensor:
    out = torch.relu(h) * net.mask
    net.mask.copy_(net.mask + 0.1)
    return out


def _averaging(net: _Masked, h: Tensor) -> Tensor:
    out = torch.relu(h) * net.mask
    with torch.no_grad():
        net.mask[:3] = h.mean(0)[:3]
    return out


@pytest.mark.parametrize("how", [_warming, _replaced, _averaging])
@pytest.mark.parametrize("mask", [torch.zeros(5), torch.tensor(KEPT)])
def test_what_the_model_writes_into_keeps_no_zeros(how: Between, mask: Tensor) -> None:
    """A gate that opens in training is zero when the model is looked at, and not at the next call."""
    found = find_symmetries(_Masked(how, mask, beside=True).double(), torch.randn(9, 4, dtype=torch.float64))
    assert found.count()["translation"] == 0


def test_masked_channels_of_a_convolution() -> None:
    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.write = nn.Conv2d(3, 5, 3), nn.Linear(5, 6)
            self.register_buffer("mask", torch.tensor(KEPT).double()[:, None, None])

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.write((torch.relu(self.read(x)) * self.mask).mean((2, 3)))
            return out

    network = _network(Convolved(), 3, 4, 4)
    verdict = judge(network, find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound
    assert verdict.complete
    assert verdict.silent == 2 * 28 + 2 * 6


class _Tokens(nn.Module):
    """A matrix for each of three tokens, the last of which is left out."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how, self.weight, self.write = how, nn.Parameter(torch.empty(3, 4, 5)), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.write(self.how(torch.relu(torch.einsum("btd,tde->bte", x, self.weight))).sum(1))
        return out


@pytest.mark.parametrize(
    "how",
    [
        lambda h: functional.pad(h[:, :2], (0, 0, 0, 1)),
        lambda h: functional.pad(h[:, :2], (0, 0, 1, 2)),
        lambda h: torch.cat([h[:, :1], torch.zeros_like(h[:, :1]), h[:, 1:2]], 1),
    ],
    ids=["padded", "padded on both sides", "zeros between"],
)
def test_zeros_beside_tokens_with_maps_of_their_own(how: Callable[[Tensor], Tensor]) -> None:
    """Each channel of a zero scales as those that it is added to; one label a token would make all channels alike."""
    network = _network(_Tokens(how), 3, 4)
    verdict = judge(network, found := find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound
    assert verdict.complete
    assert found.count()["rescale"] == 5


@pytest.mark.parametrize(("first", "last"), [(0, 4), (4, 8), (8, 12), (8, 10)])
def test_a_map_of_which_some_rows_are_read(first: int, last: int) -> None:
    """Rows that nothing reads do not keep those that are read from turning among themselves."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.write = nn.Linear(5, 12), nn.Linear(last - first, 6)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.write(self.read(x)[:, first:last])
            return out

    network = _network(Packed(), 5)
    verdict = judge(network, find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound
    assert verdict.complete
    assert verdict.orbit == verdict.truth.fibre


@pytest.mark.parametrize("how", [lambda h, m: h @ m, lambda h, m: torch.einsum("zy,bz->by", m, h)])
@pytest.mark.parametrize("lost", ["rows", "columns", "both"])
def test_matrices_of_the_model_with_rows_or_columns_of_zeros(how: Callable[..., Tensor], lost: str) -> None:
    """Beside what is silent the maps behind may move in the null space of such a matrix, which is no group's doing."""
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    if lost != "columns":
        matrix[[1, 3]] = 0
    if lost != "rows":
        matrix[:, 2] = 0
    network = _network(_Masked(lambda net, h: how(torch.tanh(h), net.mask), matrix, beside=False), 4)
    verdict = judge(network, find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound
    assert verdict.silent == verdict.truth.lone == {"rows": 10, "columns": 6, "both": 16}[lost]
