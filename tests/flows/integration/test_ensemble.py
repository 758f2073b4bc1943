"""Paths taken together are the paths taken one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import StochasticFlow, StopReason, simulate, simulate_paths
from neuralmechanics.flows.integration.stochastic.ensemble import _Batched

Params = dict[str, Tensor]
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def start() -> Params:
    draw = torch.Generator().manual_seed(1)
    shapes = {"a": (3, 4), "b": (4,)}
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


def losses(p: Params) -> Tensor:
    return ((torch.tanh(X @ p["a"]) @ p["b"] - 1) ** 2).reshape(-1)


def hard(p: Params) -> Tensor:
    """What cannot be batched: a number is read off on the way."""
    return losses(p) * (1.0 if float(p["b"].detach().sum()) > -1e9 else 2.0)


@pytest.mark.parametrize("scheme", ["euler_maruyama", "weak2"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"modified": True}], ids=["plain", "decay", "modified"])
def test_the_paths_are_those_taken_one_by_one(scheme: str, options: dict[str, float]) -> None:
    flow = StochasticFlow(losses, learning_rate=0.05, batch_size=2, **options)
    times = [0.0, 0.1, 0.27]
    together = simulate_paths(flow, start(), times, 3, scheme=scheme, seed=7)
    for k, path in enumerate(together):
        alone = simulate(flow, start(), times, scheme=scheme, seed=7 + k)
        assert path.evaluations == alone.evaluations
        assert path.reason is alone.reason is StopReason.COMPLETED
        assert torch.allclose(path.losses, alone.losses, rtol=1e-12)
        for name, values in alone.params.items():
            assert torch.allclose(path.params[name], values, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(together[0].final["a"], together[1].final["a"])


def test_losses_that_cannot_be_batched_are_differentiated_one_by_one() -> None:
    plain, read = (StochasticFlow(f, learning_rate=0.05) for f in (losses, hard))
    one, other = (simulate_paths(flow, start(), [0.0, 0.2], 2) for flow in (plain, read))
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a.final["a"], b.final["a"], rtol=1e-12)


def test_a_path_that_ends_ends_alone() -> None:
    """A bound that some of the paths leave, and a budget that none keeps."""
    flow, times = StochasticFlow(losses, learning_rate=0.05), [0.05 * k for k in range(8)]
    free = simulate_paths(flow, start(), times, 8)
    sizes = sorted(max(float(values.abs().max()) for values in path.params.values()) for path in free)
    bound = (sizes[3] + sizes[4]) / 2
    found = simulate_paths(flow, start(), times, 8, max_size=bound)
    alone = [simulate(flow, start(), times, seed=k, max_size=bound) for k in range(8)]
    assert [path.reason for path in found] == [path.reason for path in alone]
    assert {path.reason for path in found} == {StopReason.COMPLETED, StopReason.EXPLODED}
    assert [len(path.times) for path in found] == [len(path.times) for path in alone]
    short = simulate_paths(flow, start(), [0.0, 5.0], 2, max_evaluations=4)
    assert {path.reason for path in short} == {StopReason.EVALUATIONS}
    assert {path.evaluations for path in short} == {4}


def test_settings_are_refused_in_one_line() -> None:
    flow = StochasticFlow(losses, learning_rate=0.1)
    with pytest.raises(ValueError, match="paths is 0; give 1 or more"):
        simulate_paths(flow, start(), [0.0, 1.0], 0)
    with pytest.raises(ValueError, match="scheme is 'milstein'"):
        simulate_paths(flow, start(), [0.0, 1.0], 2, scheme="milstein")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("together", "batched"),
    [
        (lambda x, w: 2 * x + w, True),
        (lambda x, w: 2 * x + w * (1 + 1e-6), False),  # another function where it sees many at once
        (lambda x, w: x * float(x.sum(1)), False),  # asks for a number, of several
    ],
    ids=["the same", "another", "a number"],
)
def test_what_is_not_the_same_in_a_batch_is_taken_one_by_one(
    together: Callable[[Tensor, Tensor], Tensor], batched: bool
) -> None:
    def alone(x: Tensor, w: Tensor) -> Tensor:
        return 2 * x + w

    x, w = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    found = _Batched.__new__(_Batched)._checked(together, alone, x[0], w[0])
    assert (found is together) == batched
    if not batched:
        assert torch.equal(found(x, w), 2 * x + w)
