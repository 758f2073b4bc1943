"""A run that keeps a budget, and a reader of the page's data."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm

DROP = 15


class Written(HTMLParser):
    """A page as it was written: its sections, its tags, its texts, its scripts, and the data of its charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.data: dict[str, Any] = json.loads(self.scripts[0], parse_constant=pytest.fail)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "section":
            self.sections.append(str(named["id"]))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.cdata_elem is not None:
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    def numbers(self, position: int) -> np.ndarray[Any, Any]:
        """An array of the page's block."""
        return np.frombuffer(base64.b64decode(self.data["arrays"][position]), dtype="<f4")

    def choices(self, chart: str) -> list[dict[str, Any]]:
        """What a chart can show."""
        found: list[dict[str, Any]] = self.data["charts"][chart]["choices"]
        return found


def trained(learning_rate: float, *, steps: int = 30) -> nm.Run:
    """A small network whose decay acts on its gains and biases alone, and whose learning rate drops in the middle."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    matrices, vectors = ([p for p in model.parameters() if (p.dim() > 1) == big] for big in (True, False))
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.05}]
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9)
    batch = torch.randn(16, 6), torch.randint(3, (16,))
    symmetries = nm.find_symmetries(model, batch, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    with nm.Monitor(model, optimizer, symmetries, every=3) as monitor:
        for step in range(steps):
            if step == DROP:
                for group in optimizer.param_groups:
                    group["lr"] /= 10
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(torch.randn(16, 6)), torch.randint(3, (16,)))
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss.item(), accuracy=step / steps)
    return monitor.run


@pytest.fixture(scope="session")
def explained_run() -> nm.Run:
    return trained(0.1)


@pytest.fixture(scope="session")
def other_run() -> nm.Run:
    return trained(0.02)
