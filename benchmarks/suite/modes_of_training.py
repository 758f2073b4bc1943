"""How far each law is from training, in every mode of descent, beside the belief that charges are conserved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neuralmechanics as nm
from suite.rows import Row

TITLE = "Laws over modes of training"
TEXT = """\
The largest error of a law on the charges of a network with ReLU in double precision, relative to the
charges at the start, after 300 steps on fresh batches. Beside each: gradient flow, which says that charges
only decay. A law that does not exist in a mode is left out."""
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight decay": {"weight_decay": 1e-2},
    "momentum": {"momentum": 0.9},
    "momentum, weight decay": {"momentum": 0.9, "weight_decay": 1e-2},
    "dampening": {"momentum": 0.9, "dampening": 0.5},
    "Nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
}
LAWS = ("exact", "modified_flow", "modified_loss", "first_order")


def rows(quick: bool) -> list[Row]:
    """Every mode with a constant rate, and the last with a schedule."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = []
    for name, options in MODES.items():
        found += _mode(name, options, None, quick)
    drop = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 100, 0.1)  # noqa: E731
    return found + _mode("Nesterov, rate drops", MODES["Nesterov"], drop, quick)


def _mode(name: str, options: dict[str, Any], schedule: Callable[[Any], Any] | None, quick: bool) -> list[Row]:
    torch.manual_seed(0)
    layers = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    model = nn.Sequential(*layers).double()
    teacher = nn.Linear(8, 4).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    scheduler = schedule(optimizer) if schedule else None
    batch = _batch(teacher)
    symmetries = nm.find_symmetries(model, batch, _loss)
    with nm.Monitor(model, optimizer, symmetries, strict=True) as monitor:
        for _ in range(20 if quick else 300):
            optimizer.zero_grad()
            _loss(model, _batch(teacher)).backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
    errors = monitor.run.errors().groupby("law")["max_error"].max()
    flow = float(errors["gradient_flow"])
    values = {law: float(errors[law]) for law in LAWS if law in errors.index}
    return [
        Row(law.replace("_", " "), name, value, "relative", "gradient flow", flow)
        for law, value in values.items()
        if math.isfinite(value)
    ]


def _batch(teacher: nn.Module) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(32, 8, dtype=torch.float64)
    return inputs, teacher(inputs).argmax(1)


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
