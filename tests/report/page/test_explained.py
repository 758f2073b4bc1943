"""The page of a real run begins with its findings, then its budget and its forecast."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.report import write_report


class Scripts(HTMLParser):
    """The order of sections, and the data of the charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.data = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        named = dict(attrs)
        if tag == "section":
            self.sections.append(str(named["id"]))
        self._inside = named.get("id") == "charts"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.data += data


def numbers(trace: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(trace["y"]["bdata"]), dtype="<f4")


@pytest.fixture(scope="module")
def run() -> nm.Run:
    """A small network whose decay acts on its gains and biases alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    matrices, vectors = ([p for p in model.parameters() if (p.dim() > 1) == big] for big in (True, False))
    optimizer = torch.optim.SGD([{"params": matrices}, {"params": vectors, "weight_decay": 0.05}], lr=0.1, momentum=0.9)
    batch = torch.randn(16, 6), torch.randint(3, (16,))
    symmetries = nm.find_symmetries(model, batch, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    with nm.Monitor(model, optimizer, symmetries, every=3) as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(16, 6)), torch.randint(3, (16,))).backward()
            optimizer.step()
    return monitor.run


def test_findings_come_first_and_say_what_the_run_says(run: nm.Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "run.html").read_text()
    outline = Scripts(page)
    assert outline.sections[:3] == ["findings", "budget", "forecast"]
    for finding in run.findings():
        assert finding.text in page
        assert finding.remedy in page
    assert run.findings()[0].code == "decay-of-biases-alone"


def test_the_parts_that_are_drawn_add_up_to_what_was_measured(run: nm.Run, tmp_path: Path) -> None:
    data = json.loads(Scripts(write_report(run, tmp_path / "run.html").read_text()).data)
    assert data["budget"]["choices"]
    for choice in data["budget"]["choices"]:
        measured, *parts = (numbers(trace) for trace in choice["data"])
        assert parts
        size = sum(np.abs(part).max() for part in parts)
        assert np.abs(np.sum(parts, axis=0) - measured).max() < 1e-5 * size


def test_the_forecast_goes_on_where_the_measured_norms_end(run: nm.Run, tmp_path: Path) -> None:
    data = json.loads(Scripts(write_report(run, tmp_path / "run.html").read_text()).data)
    for choice in data["forecast"]["choices"]:
        measured, norm, low, high = (numbers(trace) for trace in choice["data"][:4])
        assert norm[0] == pytest.approx(measured[-1], rel=0.05)
        assert (low <= norm).all()
        assert (norm <= high).all()
