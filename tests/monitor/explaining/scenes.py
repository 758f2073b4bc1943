"""Short real trainings on digits, healthy and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import neuralmechanics as nm

Batch = tuple[Tensor, Tensor]
Each = Callable[[int, nn.Module, Any], None]


def nothing(step: int, model: nn.Module, optimizer: Any) -> None:
    """No disturbance."""


@cache
def digits() -> Batch:
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def network(*, norm: bool = True) -> nn.Module:
    def block(i: int, o: int) -> list[nn.Module]:
        middle: list[nn.Module] = [nn.BatchNorm2d(o)] if norm else []
        return [nn.Conv2d(i, o, 3, padding=1, bias=not norm), *middle, nn.ReLU()]

    return nn.Sequential(
        *block(1, 8), nn.MaxPool2d(2), *block(8, 12), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10)
    )


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    own = next(model.parameters()).dtype
    logits = model(batch[0].to(own))
    return nn.functional.cross_entropy(logits.float() if own == torch.bfloat16 else logits, batch[1])


def train(
    optimizer: Callable[[nn.Module], Any],
    *,
    model: Callable[[], nn.Module] = network,
    steps: int = 150,
    every: int = 5,
    before_step: Each = nothing,
    after_step: Each = nothing,
    begin: Callable[[nn.Module], None] = lambda model: None,
    loss: Callable[[nn.Module, Batch], Tensor] = cross_entropy,
    seed: int = 0,
) -> nm.Run:
    """One training with the monitor around it; what it says aloud is not shown."""
    torch.manual_seed(seed)
    net = model()
    inputs, labels = digits()
    order = torch.Generator().manual_seed(seed)
    symmetries = nm.find_symmetries(net, (inputs[:32], labels[:32]), cross_entropy)
    begin(net)
    made = optimizer(net)
    with nm.Monitor(net, made, symmetries, every=every) as monitor:
        for step in range(steps):
            rows = torch.randint(len(labels), (32,), generator=order)
            made.zero_grad()
            loss(net, (inputs[rows], labels[rows])).backward()
            before_step(step, net, made)
            made.step()
            after_step(step, net, made)
    return monitor.run


def sgd(**options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, **options})


def split(one: dict[str, Any], other: dict[str, Any], make: Any = torch.optim.SGD, **common: Any) -> Any:
    """`one` for matrices, `other` for vectors."""

    def groups(model: nn.Module) -> torch.optim.Optimizer:
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() <= 1]
        return make([{"params": matrices, **one}, {"params": vectors, **other}], **common)

    return groups


def eval_mode(model: nn.Module) -> None:
    """Norms with the statistics of the first batches, then frozen: what a forgotten `eval()` leaves."""
    with torch.no_grad():
        for _ in range(20):
            model(digits()[0][:256])
    model.eval()
