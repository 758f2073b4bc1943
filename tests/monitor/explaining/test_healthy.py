"""Thirty healthy trainings of many kinds, told together: of all findings at most two that a person would call noise.

The twelve of `test_findings` are beside these eighteen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.monitor.explaining.scenes import Batch, cross_entropy, network, sgd, train
from tests.monitor.explaining.test_findings import HEALTHY, adamw
from torch import Tensor, nn

import neuralmechanics as nm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.warning.MonitorWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*"),
]

DECAY = sgd(weight_decay=5e-4)


def perceptron(norm: Callable[[int], nn.Module], activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), norm(48), activation(), nn.Linear(48, 32), norm(32), activation(),
        nn.Linear(32, 10),
    )  # fmt: skip


class Rows(nn.Module):
    """The eight rows of an image as a sequence, read by `reader`."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader, self.head = reader, nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        read = self.reader(x.flatten(1, 2))
        out: Tensor = self.head((read[0] if isinstance(read, tuple) else read).mean(1))
        return out


class Encoder(nn.Module):
    """Rows embedded, then one pre-norm block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.block(self.embed(x)))
        return out


class Residual(nn.Module):
    """A convolution, a block x + f(x) with batch norms, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
        )  # fmt: skip
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = nn.functional.max_pool2d(torch.relu(x + self.inner(x)), 2)
        out: Tensor = self.head(x.flatten(1))
        return out


def smoothed(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)


def in_halves(model: nn.Module, batch: Batch) -> Tensor:
    """The first half of the batch beforehand: gradients that are accumulated."""
    (cross_entropy(model, (batch[0][:16], batch[1][:16])) / 2).backward()  # type: ignore[no-untyped-call]
    return cross_entropy(model, (batch[0][16:], batch[1][16:])) / 2


def in_bfloat16(model: nn.Module, batch: Batch) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return cross_entropy(model, batch)


def cosine(step: int, model: nn.Module, optimizer: Any) -> None:
    half = 1 + torch.cos(torch.tensor(torch.pi * step / 150)).item()
    for group in optimizer.param_groups:
        group["lr"] = 0.05 * half / 2


def frozen(model: nn.Module) -> None:
    """Only what stands behind the first block learns, as in fine-tuning."""
    for parameter in list(model.parameters())[:3]:
        parameter.requires_grad_(False)


def trainable(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05, 0.9, weight_decay=5e-4)


def made(kind: Any, **options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: kind(model.parameters(), **options)  # type: ignore[no-any-return]


OTHERS: dict[str, Callable[[], nm.Run]] = {
    "layer norms": lambda: train(DECAY, model=lambda: perceptron(nn.LayerNorm)),
    "group norms, gelu": lambda: train(DECAY, model=lambda: perceptron(partial(nn.GroupNorm, 4), nn.GELU)),
    "root mean square norms": lambda: train(adamw(), model=lambda: perceptron(nn.RMSNorm)),
    "plain perceptron, tanh": lambda: train(DECAY, model=lambda: perceptron(lambda _: nn.Identity(), nn.Tanh)),
    "dropout": lambda: train(DECAY, model=lambda: perceptron(lambda _: nn.Dropout(0.2))),
    "residual": lambda: train(DECAY, model=Residual),
    "attention": lambda: train(adamw(), model=lambda: Rows(Encoder())),
    "attention, sgd": lambda: train(DECAY, model=lambda: Rows(Encoder())),
    "recurrent": lambda: train(adamw(), model=lambda: Rows(nn.GRU(8, 32, batch_first=True))),
    "smoothed labels": lambda: train(DECAY, loss=smoothed),
    "accumulated": lambda: train(DECAY, loss=in_halves),
    "autocast": lambda: train(adamw(), loss=in_bfloat16),
    "cosine": lambda: train(DECAY, before_step=cosine),
    "fine-tuned": lambda: train(trainable, begin=frozen),
    "nadam": lambda: train(made(torch.optim.NAdam, lr=2e-3, weight_decay=1e-4)),
    "radam": lambda: train(made(torch.optim.RAdam, lr=2e-3, weight_decay=1e-4)),
    "adagrad": lambda: train(made(torch.optim.Adagrad, lr=2e-2)),
    "longer": lambda: train(DECAY, steps=400, every=10, seed=7, model=network),
}


def test_of_thirty_healthy_trainings_at_most_two_findings_are_noise() -> None:
    every = HEALTHY | OTHERS
    assert len(every) >= 30
    said = {name: [finding.text for finding in make().findings()] for name, make in every.items()}
    told = [(name, text) for name, texts in said.items() for text in texts]
    assert len(told) <= 2, "\n".join(f"{name}: {text}" for name, text in told)
