"""Single operations: what the data decide (positions, sizes) moves with nothing, whatever else is found stays found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import amounts, change, judge
from ..network import Network, prepared
from ..zoo import FULL


class TwoLayers(nn.Module):
    """relu(x Aᵀ + a) read by B through the given function of (model, x)."""

    def __init__(self, forward: Callable[[TwoLayers, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.run = nn.Linear(4, 6), nn.Linear(6, 3), forward

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def masked_rows(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(m.hidden(x)[x[:, 0] > 0]).sum(0)


def chosen_rows(m: TwoLayers, x: Tensor) -> Tensor:
    index = torch.nonzero(x[:, 0] > 0)[:, 0]
    return torch.zeros(7, 3, dtype=x.dtype).index_add(0, index, m.b(m.hidden(x[index])))


def masked_entries(m: TwoLayers, x: Tensor) -> Tensor:
    return torch.masked_select(m.b(m.hidden(x)), (x[:, :1] > 0).expand(-1, 3)).sum()


def two_indices(m: TwoLayers, x: Tensor) -> Tensor:
    rows, columns = x[:, :3].argsort(0), x[:, 1:].argmax(1)[:, None] % 2
    return m.b(m.hidden(x)[:, None].expand(-1, 2, -1)[rows, columns])


def one_entry(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(m.hidden(x)) * x[0, 0].item()


def put(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(torch.zeros(9, 6, dtype=x.dtype).index_put((x[:, 0].argsort(0),), m.hidden(x)))


def fourier(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(torch.fft.fftn(m.hidden(x), dim=(0,)).real)


def unfolded(m: TwoLayers, x: Tensor) -> Tensor:
    image = m.hidden(x)[:, :, None, None].expand(-1, -1, 2, 2)
    columns = nn.functional.unfold(image, (2, 1), padding=(1, 0))
    return m.b(columns.unflatten(1, (6, 2)).sum((2, 3)))


def folded(m: TwoLayers, x: Tensor) -> Tensor:
    columns = m.hidden(x)[:, :, None].expand(-1, -1, 4).reshape(-1, 12, 2)
    image = nn.functional.fold(columns, (3, 1), (2, 1))
    return m.b(image.sum((2, 3)))


def sliding_windows(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(m.hidden(x).unfold(0, 3, 2).sum(-1))


def random_factors(m: TwoLayers, x: Tensor) -> Tensor:
    return m.b(m.hidden(x) * torch.empty_like(x[:, :1]).uniform_() * torch.empty_like(x).exponential_().sum())


def one_value_for_all_heads(m: TwoLayers, x: Tensor) -> Tensor:
    mixed = nn.functional.scaled_dot_product_attention(x.expand(1, 2, -1, -1), x[None, None], m.hidden(x)[None, None])
    return m.b(mixed.mean(1)[0])


def written_into(m: TwoLayers, x: Tensor) -> Tensor:
    wide = x.new_empty(7, 12)
    wide[:, :6], wide[:, 6:] = m.hidden(x), m.hidden(x)
    return m.b(wide[:, 3:9])


ROWS = [masked_rows, chosen_rows, masked_entries, two_indices, one_entry, put]
LINEAR = [fourier, unfolded, folded, sliding_windows, random_factors, one_value_for_all_heads, written_into]


@pytest.mark.parametrize("forward", ROWS + LINEAR)
def test_rows_that_the_data_choose(forward: Callable[[TwoLayers, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    symmetries = find_symmetries(TwoLayers(forward).double(), torch.randn(7, 4, dtype=torch.float64))
    assert not symmetries.unknown
    assert symmetries.count() == {"translation": 0, "scale": 0, "rescale": 6, "linear": 0}


def chosen_units(m: TwoLayers, x: Tensor) -> Tensor:
    """Another unit for each row: a rescaling of one unit would have to know which."""
    return m.b(m.hidden(x)[torch.arange(7)[:, None], x.argmax(1)[:, None]].expand(-1, 6))


def truncated(m: TwoLayers, x: Tensor) -> Tensor:
    """Whole numbers made of activations pick rows of a table."""
    return m.b.weight.t()[m.hidden(x).long().clamp(0, 5)]


@pytest.mark.parametrize(("forward", "rescale"), [(chosen_units, 1), (truncated, 0)])
def test_what_decides_positions_is_fixed(forward: Callable[[TwoLayers, Tensor], Tensor], rescale: int) -> None:
    symmetries = find_symmetries(TwoLayers(forward).double(), torch.randn(7, 4, dtype=torch.float64))
    assert symmetries.count()["rescale"] == rescale


@pytest.mark.parametrize("name", ["hf-mixtral", "hf-mixtral-grouped", "hf-mixtral-batched"])
def test_routed_experts_one_rescale_a_unit(name: str) -> None:
    """Mixtral: 18 units in 3 experts, 8 channels of each norm, 8 of the last; independent as generators."""
    module, batch, loss_fn = FULL[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    symmetries = find_symmetries(module, batch, loss_fn)
    assert not symmetries.unknown
    assert symmetries.count()["rescale"] == 2 * (18 + 8 + 8) + 8
    params = {name: p.detach() for name, p in module.named_parameters()}
    rows = []
    for family in (f for f in symmetries if f.kind == "rescale"):
        for weights in torch.eye(family.size, dtype=torch.float64):
            moved = family.generator(params, weights)
            rows.append(torch.cat([moved.get(n, torch.zeros_like(p)).reshape(-1) for n, p in params.items()]))
    assert torch.linalg.matrix_rank(torch.stack(rows)) == len(rows)


class Recurrent(nn.Module):
    """A rectified recurrent layer as one operation, a linear head on its last output."""

    def __init__(self, given: bool = False, **settings: Any) -> None:
        super().__init__()
        self.body = nn.RNN(2, 3, nonlinearity="relu", batch_first=True, **settings)
        self.head, self.given = nn.Linear(3, 2), given

    def forward(self, x: Tensor) -> Tensor:
        state = torch.ones(self.body.num_layers, x.shape[0], 3, dtype=x.dtype) if self.given else None
        return self.head(self.body(x, state)[0][:, -1])


@pytest.mark.parametrize(
    ("settings", "rescale"),
    [
        ({}, 3),
        ({"num_layers": 2}, 6),
        ({"bias": False}, 3),
        ({"given": True}, 0),
        ({"dropout": 0.5, "num_layers": 2}, 6),
    ],
)
def test_rectified_recurrence(settings: dict[str, Any], rescale: int) -> None:
    """One rescale a hidden unit, unless the initial state pins the scale."""
    module = prepared(Recurrent(**settings))
    inputs = lambda g: (torch.randn(96, 4, 2, generator=g).double(),)  # noqa: E731
    network = Network("recurrent", module, inputs, "cross_entropy")
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    assert symmetries.count()["rescale"] == rescale
    if "dropout" not in settings:
        verdict = judge(network, symmetries)
        assert verdict.sound, verdict
        assert verdict.equal, verdict


class ReadTwice(nn.Module):
    """A parameter that one operation reads twice: its rows and columns are tied to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3))
        self.h = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.h(x * torch.relu(self.w @ self.w).sum(1))
        return out


def test_a_parameter_that_one_operation_reads_twice_is_not_free() -> None:
    network = Network(
        "read-twice",
        prepared(ReadTwice()),
        lambda generator: (torch.randn(64, 3, generator=generator, dtype=torch.float64),),
        "output",
    )
    verdict = judge(network, find_symmetries(network.module, network.batch(), network.loss_fn))
    assert verdict.sound, verdict
    assert verdict.equal, verdict


@pytest.mark.parametrize("constant", [True, False])
def test_one_step_from_a_given_state(constant: bool) -> None:
    """relu(W x + b + V h + c): where h is one number, columns of V are read as the biases are."""

    class Step(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            state = torch.ones(1, x.shape[0], 3, dtype=x.dtype) if constant else x[None, :, 0, 2:]
            return self.head(self.body(x[..., :2], state.contiguous())[0][:, -1])

    inputs = lambda g: (torch.randn(96, 1, 5, generator=g).double(),)  # noqa: E731
    network = Network("step", prepared(Step()), inputs, "cross_entropy")
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, symmetries)
    assert verdict.sound, verdict
    assert verdict.equal, verdict
    assert symmetries.count()["translation"] == (16 if constant else 7)


class Packed(nn.Module):
    """Sequences of different lengths through a recurrent layer, a linear head on every step."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.body, self.head = kind(2, 3, batch_first=True, **settings), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.arange(len(x)) % x.shape[1] + 1
        rows = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(nn.utils.rnn.pad_packed_sequence(self.body(rows)[0], batch_first=True)[0])


@pytest.mark.parametrize(
    ("kind", "settings", "shared", "rescale"),
    [
        (nn.LSTM, {}, 12, 0),
        (nn.GRU, {"num_layers": 2}, 12, 0),
        (nn.RNN, {}, 3, 0),
        (nn.RNN, {"nonlinearity": "relu"}, 3, 3),
    ],
)
def test_packed_sequences(kind: type[nn.RNNBase], settings: dict[str, Any], shared: int, rescale: int) -> None:
    """As of whole sequences: the two biases of a gate (four by softmax more), and one rescale a rectified unit."""
    inputs = lambda g: (torch.randn(9, 4, 2, generator=g).double(),)  # noqa: E731
    network = Network("packed", prepared(Packed(kind, **settings)), inputs, "cross_entropy")
    batch = network.batch()
    symmetries = find_symmetries(network.module, batch, network.loss_fn)
    assert not symmetries.unknown
    assert symmetries.count()["translation"] == shared + 4
    assert symmetries.count()["rescale"] == rescale
    generator = torch.Generator().manual_seed(0)
    for family in symmetries:
        moved = change(network.module, lambda: network.observed(batch), family, amounts(family, generator, 1.0))
        assert moved < 1e-12, f"{family!r} changes the outputs by {moved:.1e}"
