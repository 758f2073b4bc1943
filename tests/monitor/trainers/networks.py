"""One small network, its data and its symmetries, for all trainers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import neuralmechanics as nm

INPUTS, CLASSES, BATCH, BATCHES = 5, 4, 8, 6


class Points(Dataset[dict[str, Tensor]]):
    """Random points in a fixed order, as the Trainer of Transformers wants them."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(BATCH * BATCHES, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randint(CLASSES, (BATCH * BATCHES,), generator=generator)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return {"x": self.x[index], "labels": self.y[index]}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        rows = slice(BATCH * (step % BATCHES), BATCH * (step % BATCHES) + BATCH)
        return self.x[rows], self.y[rows]


class Classifier(nn.Module):
    """An MLP that gives back its loss, as models of Transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(INPUTS, 7), nn.ReLU(), nn.Linear(7, CLASSES)).double()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layers(x)
        return {"logits": logits} if labels is None else {"loss": functional.cross_entropy(logits, labels)}


def loss_fn(model: nn.Module, batch: Any) -> Tensor:
    out: Tensor = model(batch[0], labels=batch[1])["loss"]
    return out


def symmetries() -> nm.Symmetries:
    return nm.find_symmetries(Classifier(), Points().batch(0), loss_fn)


def plain_run(steps: int, **options: Any) -> tuple[nn.Module, nm.Run]:
    """The same training as a loop of one's own: what every trainer must come to."""
    model, points = Classifier(), Points()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(model, optimizer, symmetries(), residuals=True, strict=True, **options) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            loss_fn(model, points.batch(step)).backward()
            optimizer.step()
    return model, monitor.run


def assert_same_run(run: nm.Run, right: nm.Run, digits: float = 1e-13) -> None:
    """Steps, charges, predictions, residuals and hyperparameters."""
    assert list(run.data["step"].values) == list(right.data["step"].values)
    for name in ("charge", "predicted", "residual", "outside", "learning_rate", "momentum", "weight_decay"):
        assert np.allclose(run.data[name], right.data[name], rtol=digits, atol=digits, equal_nan=True), name
    errors = run.errors(by="kind").query("law in ['exact', 'identity']")
    assert len(errors) >= 2
    assert errors["max_error"].max() < 1e-12


def assert_same_weights(model: nn.Module, right: nn.Module) -> None:
    for (name, p), q in zip(model.named_parameters(), right.parameters(), strict=True):
        assert torch.equal(p, q), name
