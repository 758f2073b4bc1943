"""Free, not sought, unknown: what coverage says of a parameter, held against null spaces where rules give up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import Coverage
from neuralmechanics.symmetry.lowering.rules import RULES, rule

from ..network import Network
from ..nullspace import common_kernels, moved_elements, moved_parameters

Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Named layers and buffers, and what is done with them."""

    def __init__(self, forward: Forward, **held: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def lin(inside: int, outside: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inside, outside, bias=bias)


def par(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def frozen(layer: nn.Linear) -> nn.Linear:
    layer.bias.requires_grad_(False)
    return layer


def pruned(layer: nn.Linear) -> nn.Linear:
    prune.random_unstructured(layer, "weight", amount=0.5)  # type: ignore[no-untyped-call]
    return layer


def bits(*shape: int) -> Tensor:
    return (torch.arange(math.prod(shape)).reshape(shape) % 3 > 0).double()


def experts(m: Net, x: Tensor) -> Tensor:
    weight, index = torch.topk(m.g(x), 2)
    out = m.e(x).view(-1, 3, 2).gather(1, index[..., None].expand(-1, -1, 2))
    return (out * weight.softmax(-1)[..., None]).sum(1)


def hand_softmax(x: Tensor) -> Tensor:
    e = x.exp()
    return e / e.sum(-1, keepdim=True)


def run(cell: nn.Module, x: Tensor) -> Tensor:
    return cell(x[:, None].expand(-1, 3, -1))[0]  # type: ignore[no-any-return]


D = functional
NETS: dict[str, Callable[[], Net]] = {
    "tanh": lambda: Net(lambda m, x: m.b(m.a(x).tanh()), a=lin(4, 5), b=lin(5, 3)),
    "sigmoid of a softmax": lambda: Net(lambda m, x: m.b(m.a(x).softmax(-1)).sigmoid(), a=lin(4, 5), b=lin(5, 3)),
    "taps on padding": lambda: Net(
        lambda m, x: m.c(x.view(-1, 2, 1, 2)).tanh().flatten(1), c=nn.Conv2d(2, 3, 3, padding=1)
    ),
    "strided taps": lambda: Net(
        lambda m, x: m.c(x.view(-1, 1, 4)).tanh().flatten(1), c=nn.Conv1d(1, 2, 5, stride=4, padding=2)
    ),
    "pruned": lambda: Net(lambda m, x: m.b(m.a(x).tanh()), a=pruned(lin(4, 5)), b=lin(5, 3)),
    "masked": lambda: Net(lambda m, x: D.linear(x, m.w * m.k).tanh(), w=par(3, 4), k=bits(3, 4)),
    "masked later": lambda: Net(lambda m, x: m.a(x).tanh() * m.k, a=lin(4, 5), k=bits(5)),
    "masked in part": lambda: Net(lambda m, x: m.a(x).tanh() * m.k, a=lin(4, 5), k=bits(1, 6, 5)),
    "masked by a product": lambda: Net(lambda m, x: m.a(x).tanh() @ m.k, a=lin(4, 5), k=torch.diag(bits(5))),
    "masked weights later": lambda: Net(
        lambda m, x: D.linear(m.a(x).tanh(), m.w * m.k), a=lin(4, 5), w=par(3, 5), k=bits(1, 5)
    ),
    "where": lambda: Net(lambda m, x: torch.where(m.k > 0, m.w, 0.0) * x, w=par(4), k=bits(4)),
    "triangle": lambda: Net(lambda m, x: (x @ m.w.tril()).tanh(), w=par(4, 4)),
    "filled": lambda: Net(lambda m, x: (m.w.masked_fill(m.k > 0, -5.0) * x).tanh(), w=par(4), k=bits(4)),
    "one plus w": lambda: Net(lambda m, x: m.b(x * (1 + m.w)), w=par(4), b=lin(4, 3)),
    "one plus w in a tanh": lambda: Net(lambda m, x: ((1 + m.w) * x).tanh(), w=par(4)),
    "a number before a norm": lambda: Net(lambda m, x: m.n(m.w * x + 1), w=par(4), n=nn.BatchNorm1d(4, affine=False)),
    "a table before a norm": lambda: Net(
        lambda m, x: m.n(m.a(x) + m.k), a=lin(4, 5, False), k=torch.randn(5), n=nn.BatchNorm1d(5, affine=False)
    ),
    "a frozen bias before a norm": lambda: Net(
        lambda m, x: m.n(m.a(x)), a=frozen(lin(4, 5)), n=nn.BatchNorm1d(5, affine=False)
    ),
    "routed": lambda: Net(experts, g=lin(4, 3), e=lin(4, 6)),
    "softmax by hand": lambda: Net(lambda m, x: hand_softmax(m.a(x)), a=lin(4, 3)),
    "logsumexp": lambda: Net(lambda m, x: m.a(x) - m.a(x).logsumexp(-1, keepdim=True), a=lin(4, 3)),
    "log of a scale": lambda: Net(lambda m, x: (m.w * x).abs().log().softmax(0), w=par(4)),
    "power of two": lambda: Net(lambda m, x: 2 ** (m.w + x) / (2 ** (m.w + x)).sum(0, keepdim=True), w=par(4)),
    "rounded": lambda: Net(lambda m, x: m.b(x) + (m.w * x).round(), w=par(3), b=lin(3, 3)),
    "detached": lambda: Net(lambda m, x: m.b(x) * (m.a(x).detach().tanh()), a=lin(4, 3), b=lin(4, 3)),
    "detached later": lambda: Net(lambda m, x: m.b(x) * (m.a(x).tanh().detach()), a=lin(4, 3), b=lin(4, 3)),
    "compared": lambda: Net(lambda m, x: m.b(x) * (m.a(x).tanh() > 0.1), a=lin(4, 3), b=lin(4, 3)),
    "positions": lambda: Net(
        lambda m, x: m.b(x).tanh() + m.a(x).tanh().argmax(-1, keepdim=True), a=lin(4, 3), b=lin(4, 3)
    ),
    "rows left over": lambda: Net(lambda m, x: (x + m.p(torch.arange(4))[:, 0]).tanh(), p=nn.Embedding(7, 1)),
    "rows of a table": lambda: Net(lambda m, x: (x + m.w[m.k]).tanh(), w=par(6), k=torch.tensor([0, 2, 2, 5])),
    "lstm": lambda: Net(lambda m, x: run(m.r, x), r=nn.LSTM(4, 3, 2, batch_first=True)),
    "gru": lambda: Net(lambda m, x: run(m.r, x), r=nn.GRU(4, 3, batch_first=True)),
    "behind a rectifier": lambda: Net(
        lambda m, x: run(m.r, m.a(x).relu()), a=lin(4, 3), r=nn.LSTM(3, 2, batch_first=True)
    ),
    "one step": lambda: Net(lambda m, x: m.r(x[:, None])[0], r=nn.LSTM(4, 3, batch_first=True)),
    "product": lambda: Net(lambda m, x: (m.w * x).cumprod(-1), w=par(4)),
    "order statistic": lambda: Net(lambda m, x: (m.a(x).median(-1).values).tanh(), a=lin(4, 3)),
    "sorted": lambda: Net(lambda m, x: m.a(x).sort(-1).values.softmax(-1), a=lin(4, 3)),
    "diagonal": lambda: Net(lambda m, x: torch.diagonal(m.w) * x, w=par(4, 4)),
    "einsum of a diagonal": lambda: Net(lambda m, x: torch.einsum("ii,bi->bi", m.w, x), w=par(4, 4)),
    "softmax in pieces": lambda: Net(
        lambda m, x: m.b(m.a(x).view(-1, 2, 3).softmax(-1).reshape(-1, 6)), a=lin(4, 6), b=lin(6, 3)
    ),
    "norm in pieces": lambda: Net(
        lambda m, x: m.b(D.layer_norm(m.a(x).view(-1, 2, 3), (3,)).reshape(-1, 6)), a=lin(4, 6), b=lin(6, 3)
    ),
    "rows of a function of a table": lambda: Net(
        lambda m, x: m.w.tanh()[m.k] * x, w=par(6), k=torch.tensor([0, 1, 2, 2])
    ),
    "sine and cosine": lambda: Net(
        lambda m, x: m.a(x).sin() ** 2 + m.a(x).cos() ** 2 + m.b(x), a=lin(4, 3), b=lin(4, 3)
    ),
    "skipped places": lambda: Net(
        lambda m, x: m.c((m.w.tanh() * x)[:, None]).flatten(1), w=par(4), c=nn.Conv1d(1, 2, 1, stride=2)
    ),
    "overwritten": lambda: Net(lambda m, x: m.w.tanh().scatter(0, m.k, 1.0) * x, w=par(4), k=torch.tensor([1, 2])),
    "norm of one": lambda: Net(lambda m, x: D.rms_norm(m.a(x) + 1, (1,)) * m.w, a=lin(4, 1, False), w=par(1)),
}


def network(name: str) -> Network:
    torch.manual_seed(0)
    width = 3 if name == "rounded" else 4
    return Network(name, NETS[name]().double(), lambda g: (torch.randn(6, width, generator=g, dtype=torch.float64),))


def coverage(name: str) -> dict[str, Coverage]:
    given = network(name)
    return {c.parameter: c for c in find_symmetries(given.module, given.batch()).coverage}


@pytest.mark.parametrize("name", NETS)
def test_nothing_that_moves_is_called_free(name: str) -> None:
    given = network(name)
    constant, diagonal, _, _ = common_kernels(given)
    free = {n for n, c in coverage(name).items() if c.status == "free"}
    assert not free & moved_parameters(given.module, moved_elements(constant, diagonal))


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("tanh", {"a.weight", "a.bias", "b.weight", "b.bias"}),
        ("one plus w in a tanh", {"w"}),
        ("lstm", {f"r.weight_{k}" for k in ("ih_l0", "hh_l0", "ih_l1", "hh_l1")}),
        ("taps on padding", {"c.bias"}),
    ],
)
def test_an_operation_that_ends_a_symmetry_is_named(name: str, free: set[str]) -> None:
    found = coverage(name)
    assert {n for n, c in found.items() if c.status == "free"} == free
    assert all(found[n].ended_by and not found[n].reason for n in free)


@pytest.mark.parametrize(
    ("name", "parameter", "where", "reason"),
    [
        ("masked in part", "a.weight", "aten.mul", "numbers of the model"),
        ("log of a scale", "w", "aten.log", "sums that turn into products"),
        ("rounded", "w", "aten.round", "no gradient passes a step"),
        ("detached", "a.weight", "aten.detach", "no gradient passes"),
        ("product", "w", "aten.cumprod", "not followed"),
    ],
)
def test_a_rule_that_gives_up_is_named_with_its_reason(name: str, parameter: str, where: str, reason: str) -> None:
    found = coverage(name)[parameter]
    assert found.status == "not sought"
    assert where in found.ended_by
    assert reason in found.reason


def test_rows_that_no_place_of_the_code_reads_are_shifts() -> None:
    """A table that is read at places written in the code is read like a slice of it."""
    assert coverage("rows left over")["p.weight"].status == "covered"


def test_a_large_weight_is_not_free_of_shifts_of_its_elements() -> None:
    (found,) = find_symmetries(nn.Sequential(nn.Linear(300, 300, bias=False), nn.Tanh()), torch.randn(2, 300)).coverage
    assert found.status == "not sought"
    assert "65,536 elements" in found.reason


@torch.library.custom_op("words::squared", mutates_args=())
def squared(x: Tensor) -> Tensor:
    return x.clamp(min=0) ** 2


squared.register_fake(torch.empty_like)
squared.register_autograd(
    lambda ctx, g: 2 * ctx.x.clamp(min=0) * g, setup_context=lambda ctx, inputs, output: setattr(ctx, "x", inputs[0])
)


def test_a_rule_that_raises_is_reported_with_what_it_raised() -> None:
    given = Net(lambda m, x: m.b(squared(m.a(x))), a=lin(4, 5), b=lin(5, 3))
    without = find_symmetries(given, torch.randn(3, 4))
    assert str(without).endswith("no rule for words.squared at squared: nothing is claimed there")
    assert {c.parameter: c.status for c in without.coverage}["a.weight"] == "unknown"

    @rule("squared", prefix="words.")
    def wrong(d: object, node: object, x: object) -> object:
        return d.powr(x)  # type: ignore[attr-defined]

    try:
        (unknown,) = find_symmetries(given, torch.randn(3, 4)).unknown
        assert "the rule for words.squared raised AttributeError: there is no primitive 'powr'" in unknown.reason
        assert "no rule for" not in unknown.explained()
    finally:
        del RULES["words.squared"]

    @rule("squared", prefix="words.")
    def right(d: object, node: object, x: object) -> object:
        return d.power(d.homogeneous(x), 2.0)  # type: ignore[attr-defined]

    try:
        assert find_symmetries(given, torch.randn(3, 4)).count()["rescale"] == 5
    finally:
        del RULES["words.squared"]


@pytest.mark.parametrize("name", ["masked", "softmax by hand", "tanh"])
def test_words_survive_plain_data(name: str) -> None:
    given = network(name)
    found = find_symmetries(given.module, given.batch())
    assert type(found).from_dict(found.to_dict()).coverage == found.coverage


def read_as_a_number(net: Net, x: Tensor) -> Tensor:
    h = torch.relu(net.a(x))
    torch._check(h.sum().item() > -1)
    return net.b(h)  # type: ignore[no-any-return]


@torch.library.custom_op("neuralmechanics_tests::logged", mutates_args=())
def logged(x: Tensor) -> None:
    """An operation without a result."""


@logged.register_fake
def _(x: Tensor) -> None:
    pass


def logged_on_the_way(net: Net, x: Tensor) -> Tensor:
    h = torch.relu(net.a(x))
    logged(h)
    return net.b(h)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("forward", "status", "where"),
    [(read_as_a_number, "not sought", "aten.item"), (logged_on_the_way, "unknown", "logged")],
)
def test_what_a_statement_ends_is_not_called_free(forward: Forward, status: str, where: str) -> None:
    """A check, and an operation without a result that is not followed, leave the outputs as they are."""
    found = {
        c.parameter: c for c in find_symmetries(Net(forward, a=lin(3, 4), b=lin(4, 2)), torch.zeros(5, 3)).coverage
    }
    assert found["a.weight"].status == found["a.bias"].status == status
    assert where in found["a.weight"].ended_by
    assert found["b.weight"].status == "not sought"
    assert found["b.bias"].status == "free"
