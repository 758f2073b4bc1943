"""What flows cost and how near they come to descent, and sample paths as one ensemble."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from neuralmechanics import flows
from suite.rows import Row, least_seconds

TITLE = "Flows against their cost"
TEXT = """\
One evaluation of a flow's field beside one gradient, and its distance from descent after the same time beside
that of gradient flow. Then twenty sample paths of the stochastic flow taken together, beside one after
another."""


def rows(quick: bool) -> list[Row]:
    """Modified flows of orders 2 to 4, the modified loss, and an ensemble."""
    torch.set_num_threads(1)
    return [*_fields(quick), *_ensemble(quick)]


def _fields(quick: bool) -> list[Row]:
    torch.manual_seed(0)
    width, rate = (4 if quick else 64), 0.2
    model = nn.Sequential(nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 4)).double()
    batch = torch.randn(64, 16, dtype=torch.float64), torch.randn(64, 4, dtype=torch.float64)
    loss = flows.module_loss(model, _square, batch)
    chosen = {
        "gradient flow": flows.GradientFlow(loss),
        "modified loss": flows.ModifiedLoss(loss, learning_rate=rate),
        **{f"modified flow, order {k}": flows.ModifiedFlow(loss, learning_rate=rate, order=k) for k in (2, 3, 4)},
    }
    works = {}
    for name, flow in chosen.items():
        system = flow.system(loss.theta0)
        works[name] = partial(next(system.pieces(0.0, 1.0)).field, system.initial)
    took = least_seconds(works, 2 if quick else 5, 5)
    descent = flows.descend(loss, loss.theta0, lambda p: torch.optim.SGD(p, lr=rate), steps=10)
    apart = {}
    for name, flow in chosen.items():
        path = flows.integrate(flow, loss.theta0, descent.times)
        apart[name] = max(float((path.final[key] - descent.final[key]).abs().max()) for key in path.final)
    unit, reference, size = took["gradient flow"], apart["gradient flow"], f"{loss_size(loss)} parameters"
    found = [
        Row(f"{name}: field", size, 1e3 * took[name], "ms", "one gradient", 1e3 * unit) for name in list(chosen)[1:]
    ]
    return found + [
        Row(f"{name}: distance", f"{size}, 10 steps of {rate}", apart[name], "", "gradient flow", reference)
        for name in list(chosen)[1:]
    ]


def loss_size(loss: flows.ModuleLoss) -> int:
    """How many parameters a loss has."""
    return sum(value.numel() for value in loss.theta0.values())


def _ensemble(quick: bool) -> list[Row]:
    torch.manual_seed(0)
    inputs, targets = torch.randn(16, 4, dtype=torch.float64), torch.randn(16, dtype=torch.float64)

    def losses(params: dict[str, Tensor]) -> Tensor:
        return 0.5 * (torch.tanh(inputs @ params["a"]) @ params["b"] - targets).square()

    theta0 = {
        "a": torch.randn(4, 6, dtype=torch.float64), "b": torch.randn(6, dtype=torch.float64) / 3,
    }  # fmt: skip
    flow = flows.StochasticFlow(losses, learning_rate=0.05, batch_size=4)
    steps, paths = (3, 3) if quick else (50, 20)
    times = [0.0, 0.05 * steps]
    took = least_seconds(
        {
            "together": lambda: flows.simulate_paths(flow, theta0, times, paths),
            "in turn": lambda: [flows.simulate(flow, theta0, times, seed=seed) for seed in range(paths)],
        },
        rounds=1 if quick else 2,
    )
    size = f"{paths} paths of {steps} steps, 30 parameters"
    return [Row("ensemble", size, took["together"], "s", "one path after another", took["in turn"])]


def _square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()
