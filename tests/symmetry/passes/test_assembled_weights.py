"""Weights and biases that are put together before a layer reads them, with zeros where it has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network

WIDTH, HEADS, READ = 4, 2, 3
Assembled = Callable[["Attention", Tensor], Tensor]


class Attention(nn.Module):
    """Attention over one matrix for queries, keys and values; ``projected`` says how its bias is put together."""

    k_bias: Tensor

    def __init__(self, projected: Assembled, apart: bool = False) -> None:
        super().__init__()
        sizes = {"q": (WIDTH, READ), "k": (WIDTH, READ), "v": (WIDTH, READ)} if apart else {"qkv": (3 * WIDTH, READ)}
        self.weights = nn.ParameterDict({name: torch.randn(*size) for name, size in sizes.items()})
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(WIDTH))
        self.register_buffer("k_bias", torch.zeros(WIDTH), persistent=False)
        self.out, self.projected = nn.Linear(WIDTH, 5), projected

    def forward(self, x: Tensor) -> Tensor:
        heads = self.projected(self, x).reshape(*x.shape[:2], 3, HEADS, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _buffer(m: Attention, x: Tensor) -> Tensor:
    return functional.linear(x, m.weights["qkv"], torch.cat((m.q_bias, m.k_bias, m.v_bias)))


def _zeros_like(m: Attention, x: Tensor) -> Tensor:
    bias = torch.cat([m.q_bias, torch.zeros_like(m.v_bias, requires_grad=False), m.v_bias])
    return functional.linear(x, m.weights["qkv"], bias)


def _stacked(m: Attention, x: Tensor) -> Tensor:
    return functional.linear(x, m.weights["qkv"]) + torch.stack((m.q_bias, m.k_bias, m.v_bias)).flatten()


def _addmm(m: Attention, x: Tensor) -> Tensor:
    bias = torch.cat([m.q_bias, m.q_bias.new_zeros(WIDTH), m.v_bias])
    return torch.addmm(bias, x.flatten(0, 1), m.weights["qkv"].T).view(*x.shape[:2], -1)


def _all_apart(m: Attention, x: Tensor) -> Tensor:
    w = torch.stack(tuple(m.weights[name] for name in "qkv")).reshape(-1, READ)
    return functional.linear(x, w, torch.stack([m.q_bias, torch.zeros_like(m.q_bias), m.v_bias]).reshape(-1))


def _written(m: Attention, x: Tensor) -> Tensor:
    bias = torch.zeros(3 * WIDTH, dtype=x.dtype)
    bias[:WIDTH], bias[2 * WIDTH :] = m.q_bias, m.v_bias
    return functional.linear(x, m.weights["qkv"], bias)


WAYS: dict[str, Attention] = {
    "buffer": Attention(_buffer),
    "zeros like": Attention(_zeros_like),
    "stacked": Attention(_stacked),
    "addmm": Attention(_addmm),
    "all apart": Attention(_all_apart, apart=True),
    "written": Attention(_written),
}


def _tokens(generator: torch.Generator) -> tuple[Tensor]:
    return (torch.randn(24, 4, READ, generator=generator, dtype=torch.float64),)


def _marked(name: str) -> object:
    return pytest.param(name, marks=() if name == "buffer" else pytest.mark.slow)


@pytest.mark.parametrize("name", [_marked(name) for name in WAYS])
def test_zeros_between_two_biases_take_nothing_away(name: str) -> None:
    """Queries against keys and values against the output mix by any matrix of each head; the value bias is answered."""
    network = Network(name, WAYS[name].double(), _tokens)
    found = find_symmetries(network.module, network.batch())
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert verdict.complete, verdict
    kept = {"k_bias keeps its zeros"} if name in ("buffer", "stacked") else set()
    assert {text for family in found for text in family.requires} == kept


def test_a_bias_of_keys_that_is_no_zero_stays_where_it_is() -> None:
    model = Attention(_buffer).double()
    model.k_bias.fill_(0.5)
    network = Network("not zero", model, _tokens)
    verdict = judge(network, find_symmetries(network.module, network.batch()))
    assert verdict.sound, verdict
    assert verdict.count["linear"] == 6  # values against the output


def test_the_channels_of_queries_and_keys_mix_as_without_a_bias_of_keys() -> None:
    found = find_symmetries(WAYS["buffer"].double(), torch.randn(2, 4, READ, dtype=torch.float64))
    groups = sorted(str(space).split(" of ")[0].split(", ")[-1] for space in found.spaces)
    assert groups == ["general linear", "general linear", "permutation"]
