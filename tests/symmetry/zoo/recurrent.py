"""Recurrent cells and state-space scans, unrolled over a few steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import RMSNorm
from .registry import small

_SEQUENCE = (64, 3, 2)


class Unrolled(nn.Module):
    """A cell run over the second dimension, a linear head on its last state."""

    def __init__(self, cell: nn.Module, hidden: int = 3) -> None:
        super().__init__()
        self.cell, self.hidden, self.head = cell, hidden, nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.hidden)
        pair = (state, state)
        for step in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                pair = self.cell(x[:, step], pair)
                state = pair[0]
            else:
                state = self.cell(x[:, step], state)
        return self.head(state)


@small("lstm-cell", _SEQUENCE)
def lstm_cell() -> nn.Module:
    return Unrolled(nn.LSTMCell(2, 3))


@small("gru-cell", _SEQUENCE)
def gru_cell() -> nn.Module:
    return Unrolled(nn.GRUCell(2, 3))


@small("rnn-cell-relu", _SEQUENCE)
def rnn_cell_relu() -> nn.Module:
    return Unrolled(nn.RNNCell(2, 3, nonlinearity="relu"))


@small("rnn-cell-tanh", _SEQUENCE)
def rnn_cell_tanh() -> nn.Module:
    return Unrolled(nn.RNNCell(2, 3))


class Last(nn.Module):
    """A recurrent module with a linear head on its last output."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


@small("lstm-module", _SEQUENCE)
def lstm_module() -> nn.Module:
    return Last(nn.LSTM(2, 3, batch_first=True))


@small("gru-module", _SEQUENCE)
def gru_module() -> nn.Module:
    return Last(nn.GRU(2, 3, batch_first=True))


class Ended(nn.Module):
    """A recurrent module with linear heads on the state that it ends with."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat(list(self.body(x)[1][0]), -1))


@small("lstm-projected", _SEQUENCE)
def lstm_projected() -> nn.Module:
    return Ended(nn.LSTM(2, 4, batch_first=True, proj_size=2, bias=False), 2)


@small("lstm-projected-directions", _SEQUENCE)
def lstm_projected_directions() -> nn.Module:
    return Ended(nn.LSTM(2, 3, batch_first=True, proj_size=2, bidirectional=True), 4)


@small("lstm-projected-by-hand", _SEQUENCE)
def lstm_projected_by_hand() -> nn.Module:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.again = nn.Linear(2, 12), nn.Linear(2, 12, bias=False)
            self.project, self.head = nn.Linear(3, 2, bias=False), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h, c = x.new_zeros(len(x), 2), x.new_zeros(len(x), 3)
            for step in range(3):
                enter, forget, new, out = (self.enter(x[:, step]) + self.again(h)).chunk(4, -1)
                c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
                h = self.project(out.sigmoid() * c.tanh())
            return self.head(h)

    return ByHand()


@small("linear-recurrence", _SEQUENCE, "output")
def linear_recurrence() -> nn.Module:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decay, self.enter = nn.Parameter(torch.rand(3)), nn.Linear(2, 3, bias=False)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            return self.decay * state + self.enter(x)

    return Unrolled(Cell())


class SelectiveScan(nn.Module):
    """Mamba's mixer at its smallest: gate, causal convolution, input-dependent step, diagonal state."""

    def __init__(self, width: int = 3, inner: int = 3, state: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, 2, padding=1, groups=inner)
        self.select = nn.Linear(inner, 1 + 2 * state, bias=False)
        self.step = nn.Linear(1, inner)
        self.log_a = nn.Parameter(torch.rand(inner, state))
        self.skip = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, width, bias=False)
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        inside, gate = self.enter(x).chunk(2, dim=-1)
        inside = self.conv(inside.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        inside = functional.silu(inside)
        step, b, c = self.select(inside).split([1, self.state, self.state], dim=-1)
        step = functional.softplus(self.step(step))
        decay = torch.exp(step[..., None] * -self.log_a.exp())
        drive = step[..., None] * b[:, :, None, :] * inside[..., None]
        memory, outputs = torch.zeros_like(drive[:, 0]), []
        for t in range(x.shape[1]):
            memory = decay[:, t] * memory + drive[:, t]
            outputs.append((memory * c[:, t, None, :]).sum(-1))
        return self.leave((torch.stack(outputs, 1) + self.skip * inside) * functional.silu(gate))


@small("mamba-scan", (48, 3, 3))
def mamba_scan() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mixer, self.head = RMSNorm(3), SelectiveScan(), nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.mixer(self.norm(x)))

    return Block()
