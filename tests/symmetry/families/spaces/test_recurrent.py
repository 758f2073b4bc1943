"""Hidden units of recurrent layers: all gates of a unit are permuted and flipped with it; a projection mixes freely."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import Symmetries, find_symmetries

from .networks import prepared


class Read(nn.Module):
    """A head on the outputs of a recurrent layer, and on what it ends with."""

    def __init__(self, body: nn.Module, width: int, ends: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.ends = body, nn.Linear(width, 2), ends

    def forward(self, x: Tensor, *state: Tensor) -> Tensor:
        out, last = self.body(x, state if len(state) > 1 else state[0]) if state else self.body(x)
        if self.ends:
            last = torch.cat(last, -1) if isinstance(last, tuple) else last
            return self.head(torch.tanh(last)).sum(0)
        return self.head(out)


class Loop(nn.Module):
    """A cell run over three steps."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(3):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Written(nn.Module):
    """An LSTM with a projected state, in plain operations; its order of gates is another one."""

    def __init__(self, hidden: int = 4, projected: int = 2) -> None:
        super().__init__()
        self.enter, self.again = nn.Linear(3, 4 * hidden), nn.Linear(projected, 4 * hidden, bias=False)
        self.project, self.head = nn.Linear(hidden, projected, bias=False), nn.Linear(projected, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, c = x.new_zeros(len(x), 2), x.new_zeros(len(x), 4)
        for step in range(3):
            forget, enter, out, new = (self.enter(x[:, step]) + self.again(h)).chunk(4, -1)
            c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
            h = self.project(out.sigmoid() * c.tanh())
        return self.head(h)


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _layer(
    kind: type[nn.RNNBase], width: int = 4, **settings: object
) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (Read(kind(3, 4, batch_first=True, **settings), width), (_x(2, 3, 3),))


SIGNED = "signed permutation"
CASES: dict[str, tuple[Callable[[], tuple[nn.Module, tuple[Tensor, ...]]], list[str]]] = {
    "lstm": (_layer(nn.LSTM), [SIGNED]),
    "lstm-without-biases": (_layer(nn.LSTM, bias=False), [SIGNED]),
    "lstm-layers-and-directions": (_layer(nn.LSTM, 8, num_layers=2, bidirectional=True), [SIGNED] * 4),
    "lstm-projected": (_layer(nn.LSTM, 2, proj_size=2), [SIGNED, "general linear"]),
    "lstm-projected-layers": (_layer(nn.LSTM, 2, proj_size=2, num_layers=2), [SIGNED, "general linear"] * 2),
    "lstm-written-out": (lambda: (Written(), (_x(2, 3, 3),)), [SIGNED, "general linear"]),
    "lstm-cell": (lambda: (Loop(nn.LSTMCell(3, 4), 4), (_x(2, 3, 3),)), [SIGNED]),
    "lstm-cells-read": (lambda: (Read(nn.LSTM(3, 4, batch_first=True), 8, True), (_x(2, 3, 3),)), [SIGNED]),
    "gru": (_layer(nn.GRU), [SIGNED]),
    "gru-without-biases": (_layer(nn.GRU, bias=False), [SIGNED]),
    "gru-layers": (_layer(nn.GRU, num_layers=2), [SIGNED] * 2),
    "gru-cell": (lambda: (Loop(nn.GRUCell(3, 4), 4), (_x(2, 3, 3),)), [SIGNED]),
    "tanh": (_layer(nn.RNN), [SIGNED]),
    "tanh-directions": (_layer(nn.RNN, 8, bidirectional=True), [SIGNED] * 2),
    "tanh-cell": (lambda: (Loop(nn.RNNCell(3, 4), 4), (_x(2, 3, 3),)), [SIGNED]),
    "relu": (_layer(nn.RNN, nonlinearity="relu"), ["positive monomial"]),
    # data in the place of the first state tell the units apart
    "tanh-begun": (lambda: (Read(nn.RNN(3, 4, batch_first=True), 4), (_x(2, 3, 3), _x(1, 2, 4))), []),
    "lstm-begun": (
        lambda: (Read(nn.LSTM(3, 4, batch_first=True), 4), (_x(2, 3, 3), _x(1, 2, 4), _x(1, 2, 4))),
        [],
    ),
}


@cache
def found(name: str) -> tuple[nn.Module, tuple[Tensor, ...], Symmetries]:
    model, batch = CASES[name][0]()
    model = prepared(model)
    return model, batch, find_symmetries(model, batch)


def change(name: str, params: dict[str, Tensor]) -> float:
    model, batch, _ = found(name)
    with torch.no_grad():
        before = model(*batch)
        return float((functional_call(model, params, batch) - before).abs().max() / before.abs().max())


def params_of(name: str) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in found(name)[0].named_parameters()}


@pytest.mark.parametrize("name", CASES)
def test_groups_of_hidden_units(name: str) -> None:
    spaces = found(name)[2].spaces
    assert sorted(space.group for space in spaces) == sorted(CASES[name][1])
    assert not found(name)[2].unknown


@pytest.mark.parametrize("name", [name for name, (_, groups) in CASES.items() if groups])
def test_every_element_leaves_the_output_and_none_of_its_parts_does(name: str) -> None:
    params, generator = params_of(name), torch.Generator().manual_seed(0)
    for space in found(name)[2].spaces:
        for _ in range(3):
            assert change(name, space.transform(params, space.random_element(generator))) < 1e-9, space
        moved = space.transform(params, torch.arange(space.width).roll(1))
        for parameter in space.parameters:
            if not (parameter.startswith("body.bias_hh") and "relu" not in name):  # two biases, of which one is seen
                assert change(name, moved | {parameter: params[parameter]}) > 1e-9, (space, parameter)


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm-projected", "lstm-cell", "gru-cell"])
def test_a_gate_alone_is_not_permuted(name: str) -> None:
    params = params_of(name)
    for parameter, value in params.items():
        if "weight" in parameter and "ih" in parameter:
            order = torch.arange(len(value))
            order[:4] = order[:4].roll(1)
            assert change(name, params | {parameter: value[order]}) > 1e-6


@pytest.mark.parametrize("name", ["lstm", "gru", "gru-without-biases", "tanh", "lstm-projected"])
def test_a_unit_flipped_in_its_readers_alone_is_seen(name: str) -> None:
    params = params_of(name)
    flipped = params["head.weight"].clone()
    flipped[:, 0] *= -1
    assert change(name, params | {"head.weight": flipped}) > 1e-6


@pytest.mark.parametrize(
    ("name", "charges"), [("lstm-projected", 3), ("lstm-projected-layers", 6), ("lstm-written-out", 3)]
)
def test_the_projection_of_a_state_is_a_linear_block(name: str, charges: int) -> None:
    assert found(name)[2].count()["linear"] == charges
