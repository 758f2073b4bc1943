"""Two runs side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.monitor.conftest import make_training
from tests.monitor.explaining.noise import followed

import neuralmechanics as nm
from neuralmechanics.monitor.explaining.comparison import compare_runs


def run(rate: float) -> nm.Run:
    training = make_training()
    optimizer = training.sgd(lr=rate, momentum=0.9, weight_decay=0.01)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=5) as monitor:
        training.run(optimizer, range(20))
    return monitor.run


def test_what_differs_is_said_and_each_layer_has_both_changes() -> None:
    first, second = run(0.05), run(0.1)
    compared = compare_runs(first, second)
    settings = compared.settings.set_index("setting")
    assert tuple(settings.loc["optimizer.groups.0.lr"]) == ("0.05", "0.1")
    assert list(settings.index) == ["optimizer.groups.0.lr"]
    table = compared.layers.set_index(["layer", "kind"])
    for number, each in ((1, first), (2, second)):
        books = each.budget("layer")
        assert np.allclose(table[f"change {number}"], books["measured"].sum("step"), atol=1e-14)
        part = books["change"].sel(part="weight_decay").sum("step")
        assert np.allclose(table[f"weight_decay {number}"], part, atol=1e-14)
    json.dumps(compared.to_dict(), allow_nan=False)


def test_runs_of_different_models_are_refused() -> None:
    other, _ = followed(lambda p: torch.optim.SGD(p, lr=0.1), 20, norm=2.0, rows=2, every=5)
    with pytest.raises(ValueError, match="no layer in common"):
        compare_runs(run(0.1), other)
