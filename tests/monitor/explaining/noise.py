"""Scale-free weights under tangent noise: w enters as w/|w|, so that ĝ² is the dimension less one at unit norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neuralmechanics as nm

WIDTH = 400


class Directions(nn.Module):
    """Rows of which only the directions matter, read by random vectors."""

    def __init__(self, rows: int, norm: float) -> None:
        super().__init__()
        weight = torch.randn(rows, WIDTH, dtype=torch.float64)
        self.weight = nn.Parameter(norm * weight / weight.norm(dim=1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight / self.weight.norm(dim=1, keepdim=True)).sum()


def followed(
    make: Callable[[Any], torch.optim.Optimizer],
    steps: int,
    *,
    norm: float,
    rows: int = 4,
    every: int = 50,
    change: Callable[[int, torch.optim.Optimizer], None] = lambda step, optimizer: None,
) -> tuple[nm.Run, Tensor]:
    """The run of such a training, and the rotation of each of its last 500 steps [steps, rows]."""
    torch.manual_seed(3)
    model = Directions(rows, norm)
    symmetries = nm.find_symmetries(model, torch.randn(rows, WIDTH, dtype=torch.float64))
    assert symmetries.count()["scale"] == rows
    optimizer, angles = make(model.parameters()), []
    with nm.Monitor(model, optimizer, symmetries, every=every) as monitor:
        for step in range(steps):
            change(step, optimizer)
            optimizer.zero_grad()
            model(torch.randn(rows, WIDTH, dtype=torch.float64)).backward()
            before = model.weight.detach().clone() if step >= steps - 500 else None
            optimizer.step()
            if before is not None:
                moved = (model.weight.detach() - before).norm(dim=1)
                angles.append(moved / before.norm(dim=1))
    return monitor.run, torch.stack(angles)
