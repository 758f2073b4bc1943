"""What stands in front of recurrent layers: any linear map of their inputs, and shifts that their biases answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_SEQUENCE = (32, 3, 4)


class Entered(nn.Module):
    """Linear inputs into a recurrent module, all of whose states are the output."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.entry, self.body = nn.Linear(4, 3), body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.entry(x))[0]
        return out


class Steps(nn.Module):
    """Linear inputs into a cell, step by step, so that each of its biases is read several times."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.entry, self.cell = nn.Linear(4, 3), cell

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 3)
        pair = (state, state)
        for step in range(3):
            if isinstance(self.cell, nn.LSTMCell):
                pair = self.cell(self.entry(x[:, step]), pair)
                state = pair[0]
            else:
                state = self.cell(self.entry(x[:, step]), state)
        return state


class Joined(nn.Module):
    """A gated cell of which every gate reads the input and the state, one behind the other; the first state is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(4, 3)
        self.gates = nn.ModuleList(nn.Linear(6, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        state = memory = x.new_zeros(len(x), 3)
        for step in range(3):
            joined = torch.cat([self.entry(x[:, step]), state], -1)
            forget, enter, new = (gate(joined) for gate in self.gates)
            memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
            state = memory.tanh()
        return state


class Tied(nn.Module):
    """A language model whose table is its head: a shift of all rows is answered by the bias of the inputs."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.table, self.body = nn.Embedding(5, 3), body

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.body(self.table(x))[0], self.table.weight)


class Positions(nn.Module):
    """Words and positions in front of a recurrent layer: a shift of all positions is a shift of all words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(5, 3), nn.Parameter(torch.randn(3, 3))
        self.body = nn.GRU(3, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.words(x) + self.positions)[0]
        return out


class BeforeAnAttention(nn.Module):
    """A decoder whose cell reads a word beside what it attends to."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.encoder = nn.Embedding(5, 3), nn.GRU(3, 3, batch_first=True)
        self.new, self.cell, self.head = nn.Embedding(5, 2), nn.GRUCell(5, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.encoder(self.words(x))
        state, out = last[0], []
        for step in range(2):
            weight = (states @ state[:, :, None]).softmax(1)
            state = self.cell(torch.cat([self.new(x[:, step]), (weight * states).sum(1)], -1), state)
            out.append(self.head(state))
        return torch.stack(out, 1)


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "entered-lstm": lambda: Entered(nn.LSTM(3, 3, batch_first=True)),
    "entered-rectified": lambda: Entered(nn.RNN(3, 3, batch_first=True, nonlinearity="relu")),
    "steps-lstm": lambda: Steps(nn.LSTMCell(3, 3)),
    "steps-gru": lambda: Steps(nn.GRUCell(3, 3)),
    "steps-rectified": lambda: Steps(nn.RNNCell(3, 3, nonlinearity="relu")),
    "steps-joined": Joined,
}
for _name, _module in _MODULES.items():
    small(_name, _SEQUENCE, "output")(_module)
small("words-tied-lstm", (32, 3), tokens=5)(lambda: Tied(nn.LSTM(3, 3, batch_first=True)))
small("words-and-positions-gru", (32, 3), "output", tokens=5)(Positions)
small("words-beside-attention", (32, 3), "output", tokens=5)(BeforeAnAttention)


class Scored(nn.Module):
    """Values under scores of queries and keys that no softmax holds, behind something that forgets their size."""

    def __init__(self, mixed: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.queries, self.keys = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)
        self.values, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 2)
        self.decay, self.mixed = nn.Linear(4, 1), mixed
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.queries(x), self.keys(x), self.values(x)
        shares = torch.sigmoid(self.decay(x))
        return self.head(torch.relu(self.mixed(self, *parts) * shares))


@small("linear-attention-before-a-norm", (8, 3, 4), "output")
def linear_attention_before_a_norm() -> nn.Module:
    """Any matrix between queries and keys, and a factor of either that the norm forgets."""
    return Scored(lambda m, q, k, v: m.norm(torch.einsum("btd,bsd,bse->bte", q, k, v)), norm=nn.RMSNorm(4))


@small("retention", (8, 3, 4), "output")
def retention() -> nn.Module:
    def mixed(m: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        places = torch.arange(q.shape[1])
        apart = places[:, None] - places
        kept = torch.where(apart >= 0, 0.9 ** apart.clamp(min=0), 0.0)
        out = ((q @ k.transpose(1, 2)) * kept) @ v
        return functional.group_norm(out.reshape(-1, 4), 1, eps=1e-20).view(out.shape)

    return Scored(mixed)


@small("scores-of-one-length", (8, 3, 4), "output")
def scores_of_one_length() -> nn.Module:
    return Scored(lambda m, q, k, v: functional.normalize(q @ k.transpose(1, 2), dim=-1, eps=1e-20) @ v)


@small("running-sums-of-keys-and-values", (8, 3, 4), "output")
def running_sums_of_keys_and_values() -> nn.Module:
    """The readers take up a factor of the queries or the keys: their matrix is still any."""

    def mixed(m: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sums = torch.einsum("btd,bte->btde", k, v).cumsum(1)
        return torch.einsum("btd,btde->bte", q, sums)

    return Scored(mixed)
