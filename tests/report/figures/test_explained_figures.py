"""Figures of budget, forecast and findings say what the run's data say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.report import budget_bars, findings_list, forecast_norms


@pytest.fixture(scope="module")
def run() -> nm.Run:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    batch = torch.randn(16, 6), torch.randint(3, (16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    symmetries = nm.find_symmetries(model, batch, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    with nm.Monitor(model, optimizer, symmetries, every=2) as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(16, 6)), torch.randint(3, (16,))).backward()
            optimizer.step()
    return monitor.run


def test_stacked_causes_end_at_what_was_measured(run: nm.Run) -> None:
    axes = budget_bars(run).axes[0]
    books = run.budget("layer")
    size = np.abs(books["change"].sum("step").values).sum(axis=0)
    marks = next(line for line in axes.lines if line.get_marker() == "D")
    assert np.allclose(np.sort(marks.get_xdata()), np.sort((books["measured"].sum("step").values / size)[size > 0]))
    for y, x in zip(marks.get_ydata(), marks.get_xdata(), strict=True):
        bars = [bar for bar in axes.patches if np.isclose(bar.get_y() + bar.get_height() / 2, y)]
        assert np.isclose(sum(bar.get_width() for bar in bars), x, atol=1e-6)
        right = [bar for bar in bars if bar.get_width() > 0]
        assert np.isclose(max((b.get_x() + b.get_width() for b in right), default=0), sum(b.get_width() for b in right))


def test_a_forecast_is_drawn_as_it_was_told(run: nm.Run) -> None:
    told = run.what_if(lr=0.01)
    figure = forecast_norms(run, told)
    lines = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() == "--"]
    norms = told.paths["norm"].values.T
    assert lines
    for line in lines:
        assert any(np.array_equal(line.get_ydata(), norm) for norm in norms)


def test_findings_are_written_out_with_their_remedies(run: nm.Run) -> None:
    words = " ".join(" ".join(text.get_text() for text in findings_list(run).axes[0].texts).split())
    found = run.findings()
    for finding in found:
        assert finding.text.replace("$", r"\$") in words
        assert finding.remedy.replace("$", r"\$") in words
    assert found or "Nothing was found" in words
