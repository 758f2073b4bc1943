"""A recorded line of operations gives the numbers of the field that it takes the place of, or is not made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from neuralmechanics.flows import ModifiedFlow, integrate, module_loss
from neuralmechanics.flows.equation.straight_line import Warm, straight_line
from neuralmechanics.flows.equation.system import Field

X, Y = torch.randn(6, 12, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def series(model: nn.Module, order: int) -> tuple[Field, Tensor]:
    """The series field of a network's cross-entropy without its recording, and where it starts."""
    loss = module_loss(model, lambda m, b: functional.cross_entropy(m(b[0]), b[1]), (X, Y))
    system = ModifiedFlow(loss, learning_rate=0.05, order=order, route="derivatives").system(loss.theta0)
    field = next(system.pieces(0.0, 1.0)).field
    assert isinstance(field, Warm)
    return field.field, system.initial


class Last(nn.Module):
    """A recurrent layer over four steps; what it says last."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.out = kind(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.layer(x.view(-1, 4, 3))[0][:, -1])
        return found


class Again(nn.Module):
    """A layer whose values are forgotten, and computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(12, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(checkpoint(lambda z: torch.tanh(self.inner(z)), x, use_reentrant=False))
        return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "GRU": lambda: Last(nn.GRU),
    "LSTM": lambda: Last(nn.LSTM),
    "RNN": lambda: Last(nn.RNN),
    "group norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(24, 3)
    ),
    "gated": lambda: nn.Sequential(nn.Linear(12, 8), nn.GLU(), nn.Mish(), nn.Linear(4, 3)),
    "checkpointed": Again,
    "batch norm": lambda: nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)),
    "layer norm": lambda: nn.Sequential(nn.Linear(12, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)
    ),
}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_line_gives_the_same_numbers_everywhere(name: str, order: int) -> None:
    """Not only where it was recorded: the operations are the same, so the numbers are, but for rounding."""
    torch.manual_seed(0)
    field, start = series(NETWORKS[name](), order)
    line = straight_line(field, start)
    assert line is not None
    for reach in (0.0, 0.1, 1.0):
        x = start + reach * torch.randn_like(start)
        expected = field(x)
        torch.testing.assert_close(line(x), expected, rtol=1e-12, atol=1e-13 * float(expected.abs().max()))


def masked(x: Tensor) -> Tensor:
    return x.sum() + torch.zeros_like(x).masked_scatter(x > 0, x[x > 0])


def aliased(x: Tensor) -> Tensor:
    y = x * 2
    view = y[:1]
    y.add_(1)
    return x * view


MEMORY = torch.zeros(3)


ALIAS = MEMORY.view(3)


def remembered_elsewhere(x: Tensor) -> Tensor:
    MEMORY.copy_(x.detach())
    return x * ALIAS


def the_point_before(x: Tensor) -> Tensor:
    found = x * MEMORY
    MEMORY.copy_(x.detach())
    return found


def the_point_before_elsewhere(x: Tensor) -> Tensor:
    found = x * ALIAS
    MEMORY.copy_(x.detach())
    return found


def counted(x: Tensor) -> Tensor:
    MEMORY.add_(1)
    return x * MEMORY


def chunks_that_overlap(x: Tensor) -> Tensor:
    y = x * 2
    first, last = y[:2], y[1:]
    first.add_(1)
    return x.sum() * last


UNSTEADY: dict[str, Callable[[Tensor], Tensor]] = {
    "a branch": lambda x: x if x.sum() > 0 else -x,
    "a number": lambda x: x * float(x.sum()),
    "a position": lambda x: x + x[int(x.argmax())],
    "a comparison of tensors": lambda x: x if torch.equal(x, x.abs()) else -x,
    "numbers in a list": lambda x: x * x.tolist()[0],
    "numbers in an array": lambda x: x * float(x.numpy()[0]),
    "a mask": masked,
    "a position of one": lambda x: x.sum() + x.nonzero().double().sum(),
    "random numbers": lambda x: x + torch.randn(3),
    "a view of what is written into": aliased,
    "a memory under another name": remembered_elsewhere,
    "the point before": the_point_before,
    "the point before, under another name": the_point_before_elsewhere,
    "a counter": counted,
    "a part of what is written into": chunks_that_overlap,
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_may_do_something_else_elsewhere_has_no_line(name: str) -> None:
    assert straight_line(UNSTEADY[name], torch.tensor([1.0, 2.0, 3.0])) is None


def test_a_memory_that_nothing_reads_is_left_alone() -> None:
    def noting(x: Tensor) -> Tensor:
        MEMORY.copy_(x.detach())
        return x * 2

    line = straight_line(noting, torch.ones(3))
    assert line is not None
    MEMORY.zero_()
    assert torch.equal(line(torch.ones(3)), torch.full((3,), 2.0))
    assert not MEMORY.any()


def test_what_is_copied_into_a_memory_is_its_value() -> None:
    def remembered(x: Tensor) -> Tensor:
        MEMORY.copy_(x.detach())
        return x * MEMORY

    line = straight_line(remembered, torch.ones(3))
    assert line is not None
    MEMORY.zero_()
    assert line(torch.tensor([1.0, 2.0, 3.0])).tolist() == [1.0, 4.0, 9.0]


def test_chunks_of_one_tensor_are_written_into_one_by_one() -> None:
    """As gates of recurrent cells are: columns of one matrix lie between one another and have no entry in common."""

    def gated(x: Tensor) -> Tensor:
        first, second = (x * 2).view(2, 4).chunk(2, dim=1)
        first.add_(1)
        second.mul_(first)
        return second

    line = straight_line(gated, torch.ones(8))
    assert line is not None
    x = torch.arange(8.0)
    assert torch.equal(line(x), gated(x))


def test_writing_into_a_value_is_a_value_of_its_own() -> None:
    def grown(x: Tensor) -> Tensor:
        y, same = x * 2, x * 2
        y.add_(1)
        return y * same

    line = straight_line(grown, torch.ones(2))
    assert line is not None
    assert line(torch.tensor([2.0, 3.0])).tolist() == [20.0, 42.0]


def counting(field: Field) -> tuple[Field, list[int]]:
    calls = [0]

    def counted(x: Tensor) -> Tensor:
        calls[0] += 1
        return field(x)

    return counted, calls


def test_the_line_takes_over_after_it_has_agreed_three_times() -> None:
    field, calls = counting(lambda x: x.square())
    warm = Warm(field, patience=5)
    points = [torch.tensor([float(k)]) for k in range(1, 21)]
    assert [float(warm(x)) for x in points] == [float(x) ** 2 for x in points]
    # Five to begin with, of which the last recorded too, and two more to compare.
    assert calls == [5 + 1 + 2]


def test_a_field_that_leaves_its_line_keeps_its_own_way() -> None:
    """What no recording can see: a field that is no function of the point."""
    turn = [1.0]
    field, calls = counting(lambda x: x * turn[0])
    warm = Warm(field, patience=2)
    for k in range(8):
        turn[0] = 1.0 if k < 3 else -1.0
        assert float(warm(torch.ones(1))) == turn[0]
    assert calls == [9]


def test_inside_a_mode_the_field_itself_is_asked() -> None:
    """A mode may hold the branch of a kink, which a line recorded without it does not know."""

    class Doubled(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = func(*args, **(kwargs or {}))
            return found * 2 if func is Tensor.square else found

    warm = Warm(lambda x: x.square(), patience=1)
    for _ in range(5):
        assert float(warm(torch.full((1,), 3.0))) == 9.0
    with Doubled():
        assert float(warm(torch.full((1,), 3.0))) == 18.0
    assert torch.func.vmap(warm)(torch.ones(2, 1)).tolist() == [[1.0], [1.0]]


def test_a_loss_that_becomes_another_is_noticed() -> None:
    data = [torch.ones(3)]
    warm = Warm(lambda x: x * data[0], patience=1)
    x = torch.arange(1.0, 4.0)
    for _ in range(70):
        torch.testing.assert_close(warm(x), x)
    assert warm.line is not None
    data[0] = torch.full((3,), 2.0)
    with pytest.warns(UserWarning, match="another function"):
        found = [warm(x) for _ in range(64)][-1]
    torch.testing.assert_close(found, 2 * x)
    assert warm.line is None
    torch.testing.assert_close(warm(3 * x), 6 * x)


def test_each_integration_records_its_own_line() -> None:
    """What a loss depends on may be changed between two integrations."""
    scale = [1.0]
    flow = ModifiedFlow(lambda p: scale[0] * (p["x"] ** 4).sum(), learning_rate=0.01, order=3, route="derivatives")
    ends = []
    for scale[0] in (1.0, 3.0):
        path = integrate(flow, {"x": torch.tensor([1.0, 0.5])}, [0.0, 1.0], method="rk4", step=0.01)
        ends.append(path.final["x"])
    exact = integrate(
        flow, {"x": torch.tensor([1.0, 0.5])}, [0.0, 1.0], method="dopri5", rtol=1e-9, atol=1e-12, estimate_error=False
    ).final["x"]
    torch.testing.assert_close(ends[1], exact, rtol=1e-6, atol=1e-8)
    assert float((ends[0] - ends[1]).abs().max()) > 1e-2
