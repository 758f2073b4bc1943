"""Small trainings with known symmetries, each the same to the last bit whenever it is made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.symmetry import Symmetries

Batch = tuple[Tensor, Tensor]
INPUTS, CLASSES, BATCH = 5, 4, 16


class ConvNet(nn.Module):
    """Convolution, batch norm, dropout: everything that has a state of its own or draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3)
        )
        self.middle = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.middle(self.features(x)))
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@dataclass
class Training:
    """A model, its symmetries, and batches that depend on the step alone."""

    model: nn.Module
    symmetries: Symmetries
    shape: tuple[int, ...]
    dtype: torch.dtype

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(1000 + step)
        x = torch.randn(BATCH, *self.shape, generator=generator, dtype=torch.float64).to(self.dtype)
        return x, torch.randint(CLASSES, (BATCH,), generator=generator)

    def sgd(self, **options: Any) -> torch.optim.SGD:
        return torch.optim.SGD(self.model.parameters(), **{"lr": 0.1, **options})

    def run(
        self,
        optimizer: torch.optim.Optimizer,
        steps: Iterator[int] | range,
        after: Callable[[int, Tensor], None] = print,
    ) -> list[float]:
        losses = []
        for step in steps:
            loss = loss_fn(self.model, self.batch(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if after is not print:
                after(step, loss)
            losses.append(float(loss.detach()))
        return losses


_FOUND: dict[str, Symmetries] = {}


def make_training(name: str = "mlp", dtype: torch.dtype = torch.float64) -> Training:
    torch.manual_seed(0)
    model = (mlp() if name == "mlp" else ConvNet()).to(dtype)
    training = Training(model, Symmetries(()), (INPUTS,) if name == "mlp" else (1, 8, 8), dtype)
    state = torch.get_rng_state()
    if name not in _FOUND:
        _FOUND[name] = nm.find_symmetries(model, training.batch(0), loss_fn)
    torch.set_rng_state(state)
    training.symmetries = _FOUND[name]
    return training


@pytest.fixture
def training() -> Training:
    """An MLP in float64: 7 translations and 13 rescales, all exact."""
    return make_training()


@pytest.fixture
def make() -> Callable[..., Training]:
    """The maker itself, for tests that need the same training twice."""
    return make_training


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "run"
