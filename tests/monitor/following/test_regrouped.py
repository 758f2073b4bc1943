"""Groups that come half-way, rates that are one tensor, momentum that goes and returns, warnings that are told once."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning


def network() -> tuple[nn.Module, torch.Tensor, nm.Symmetries]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    batch = torch.randn(16, 3, dtype=torch.float64)
    return model, batch, nm.find_symmetries(model, batch)


def step(model: nn.Module, batch: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (model(batch) - 1).square().mean().backward()
    optimizer.step()


def errors(run: nm.monitor.Run, law: str) -> np.ndarray:
    data = run.data
    return np.abs(data["predicted"].sel(law=law).values - data["charge"].values) / data["scale"].values


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_group_that_comes_half_way_is_followed_from_there(momentum: float) -> None:
    """Layers thawed one after the other: the identity is exact to rounding throughout, the exact law where it holds."""
    model, batch, symmetries = network()
    optimizer = torch.optim.SGD(model[4].parameters(), 0.1, momentum=momentum, weight_decay=1e-2)
    with nm.Monitor(model, optimizer, symmetries, every=1, strict=True, residuals=True) as monitor:
        for number in range(12):
            if number == 4:
                optimizer.add_param_group({"params": list(model[2].parameters()), "weight_decay": 0.0})
            if number == 8:
                optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.05})
            step(model, batch, optimizer)
    charge = monitor.run.data["charge"].values
    first = np.char.startswith(monitor.run.data["family"].values.astype(str), "rescale: 0")
    assert np.array_equal(charge[:5, first], np.repeat(charge[:1, first], 5, 0))  # nothing has moved it yet
    assert np.abs(charge[-1] - charge[0]).min() > 1e-6
    assert errors(monitor.run, "identity").max() < 1e-12
    assert np.nanmax(errors(monitor.run, "exact")) < 1e-12


def test_one_tensor_is_the_rate_of_two_groups() -> None:
    """A schedule that writes into it moves both; the exact law stays exact."""
    model, batch, symmetries = network()
    rate = torch.tensor(0.1, dtype=torch.float64)
    groups = [{"params": list(layer.parameters()), "lr": rate} for layer in (model[0], model[2], model[4])]
    optimizer = torch.optim.SGD(groups, lr=rate, weight_decay=1e-2, foreach=False)
    with nm.Monitor(model, optimizer, symmetries, every=1, strict=True) as monitor:
        for number in range(8):
            rate.fill_(0.1 / (1 + number))
            step(model, batch, optimizer)
    assert monitor.run.data["learning_rate"].values[-1] == pytest.approx(0.1 / 8)
    assert errors(monitor.run, "exact").max() < 1e-12


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_goes_and_returns(nesterov: bool) -> None:
    """.9, then 0, then .9: torch's buffer lies idle meanwhile and is taken up again, and so is the companion."""
    model, batch, symmetries = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-2, nesterov=nesterov)
    with nm.Monitor(model, optimizer, symmetries, every=1, strict=True) as monitor:
        for number in range(15):
            resting = 5 <= number < 10
            optimizer.param_groups[0]["momentum"] = 0.0 if resting else 0.9
            optimizer.param_groups[0]["nesterov"] = nesterov and not resting
            step(model, batch, optimizer)
    assert errors(monitor.run, "exact").max() < 1e-12


def test_what_was_told_is_not_told_again_after_a_resume(tmp_path: Path) -> None:
    """A subject is one warning in a run, however many times the run is continued; and a monitor tells it once."""
    model, batch, symmetries = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    heard = []
    for resume in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with nm.Monitor(model, optimizer, symmetries, tmp_path / "run", every=1, resume=resume):
                for _ in range(3):
                    step(model, batch, optimizer)
        heard.append([str(w.message) for w in caught if issubclass(w.category, MonitorWarning)])
    assert len(heard[0]) == len(set(heard[0])) == 1
    assert "obeys no closed law" in heard[0][0]
    assert heard[1] in ([], heard[0])
    notes = [note.message for note in nm.open_run(tmp_path / "run").warnings]
    assert sum("obeys no closed law" in note for note in notes) <= 2
