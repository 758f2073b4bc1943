"""Charges of gains that are stored about another point than zero, followed through real trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics import laws
from neuralmechanics.monitor import MonitorWarning

MODES: dict[str, dict[str, Any]] = {
    "plain": {"weight_decay": 0.05},
    "heavy ball": {"momentum": 0.9, "weight_decay": 0.02},
    "dampened": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02},
    "without decay": {"momentum": 0.9},
    "strong": {"momentum": 0.2, "weight_decay": 18.0, "lr": 0.06},
}


class Gains(nn.Module):
    """A norm with gains 1 + w before two layers, and a modulation 1 + scale whose bias holds the constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.condition = nn.Linear(5, 6), nn.Linear(5, 8)
        self.gate, self.up, self.last = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.layer_norm(self.first(x), (6,), eps=1e-20) * (1 + self.weight)
        scale, shift = self.condition(x).chunk(2, dim=-1)
        h = torch.tanh(self.gate(h)) * torch.tanh(self.up(h)) * (1 + scale) + shift
        out: Tensor = self.last(h)
        return out


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batch_of(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (16,), generator=generator)


def made() -> tuple[nn.Module, nm.Symmetries]:
    torch.manual_seed(0)
    model = Gains().double()
    return model, nm.find_symmetries(model, batch_of(0), loss_fn)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, wrong: float = 1.0) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_fn(model, batch_of(step)).backward()
        model.weight.grad.mul_(wrong)  # type: ignore[union-attr]
        optimizer.step()


def error(run: nm.Run, law: str) -> np.ndarray:
    data = run.data
    largest = np.maximum(np.abs(data["charge"].values).max(0), data["scale"].values)
    return np.abs(data["predicted"].sel(law=law) - data["charge"]).values / largest


@pytest.mark.parametrize("mode", MODES)
def test_exact_under_weight_decay(mode: str) -> None:
    model, symmetries = made()
    displaced = symmetries.displaced.numpy()
    assert displaced.sum() == 10
    optimizer = torch.optim.SGD(model.parameters(), **{"lr": 0.1, **MODES[mode]})
    with nm.Monitor(model, optimizer, symmetries, residuals=True, strict=True) as monitor:
        train(model, optimizer, range(25))
        optimizer.param_groups[0]["lr"] /= 4
        train(model, optimizer, range(25, 50))
    data = monitor.run.data
    assert error(monitor.run, "exact").max() < 1e-12
    assert error(monitor.run, "identity").max() < 1e-12
    assert float(np.nanmax(np.abs(data["residual"]))) < 1e-14
    decays = MODES[mode].get("weight_decay", 0.0) > 0
    assert (np.isnan(data["weight_decay"].values[-1]) == (displaced & decays)).all()
    rates = data["predicted"].sel(law="gradient_flow").values[1:]
    assert (np.isnan(rates) == (displaced & decays)).all()
    params = {name: p.detach() for name, p in model.named_parameters()}
    about_one = (1 + params["weight"]).square() - sum(params[f"{n}.weight"].square().sum(0) for n in ("gate", "up"))
    number = [label.startswith("1 + weight") for label in symmetries.labels]
    assert np.allclose(data["charge"].values[-1, number], about_one.numpy(), rtol=1e-12)
    assert np.allclose(data["scale"].values[number], symmetries.charge_scale(made_params())[number].numpy(), rtol=1e-12)


def made_params() -> dict[str, Tensor]:
    return {name: p.detach() for name, p in made()[0].named_parameters()}


def test_the_law_of_a_charge_about_zero_would_be_wrong(tmp_path: Path) -> None:
    model, symmetries = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02)
    with nm.Monitor(model, optimizer, symmetries, tmp_path / "run", drives=True, strict=True, every=1):
        train(model, optimizer, range(40))
    run = nm.open_run(tmp_path / "run")
    assert run.symmetries.displaced.equal(symmetries.displaced)
    history, scale = run.drive_history(), torch.from_numpy(run.data["scale"].values)
    measured = torch.from_numpy(run.data["charge"].values)
    path = laws.replay(laws.ExactLaw(symmetries.quadratic), history)
    assert float(((path - measured).abs() / scale).max()) < 1e-13
    even = [replace(hyper, weight_decay=0.02) for hyper in history.hyperparameters]
    wrong = laws.replay(laws.ExactLaw(symmetries.quadratic), replace(history, hyperparameters=even))
    off = ((wrong - measured).abs() / scale).amax(0)
    assert float(off[symmetries.displaced].min()) > 1e-2
    assert float(off[~symmetries.displaced].max()) < 1e-13


def test_uneven_decay_and_a_buffer_in_use() -> None:
    """No decay on vectors, a monitor that comes late, and decay of the gains alone later."""
    model, symmetries = made()
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05}, {"params": vectors}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.0)
    train(model, optimizer, range(10))
    with nm.Monitor(model, optimizer, symmetries, residuals=True, strict=True) as monitor:
        train(model, optimizer, range(10, 30))
        groups[0]["weight_decay"], optimizer.param_groups[1]["weight_decay"] = 0.0, 0.1
        train(model, optimizer, range(30, 50))
    assert error(monitor.run, "exact").max() < 1e-12


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_the_identity_under_other_optimisers(kind: type[torch.optim.Optimizer]) -> None:
    model, symmetries = made()
    optimizer = kind(model.parameters(), lr=0.01, weight_decay=0.1)  # type: ignore[call-arg]
    with (
        pytest.warns(MonitorWarning, match="obeys no closed law"),
        nm.Monitor(model, optimizer, symmetries, strict=True) as monitor,
    ):
        train(model, optimizer, range(40))
    assert error(monitor.run, "identity").max() < 1e-13


def test_a_write_from_outside_and_a_wrong_gradient_are_said() -> None:
    """The watch counts sizes of θ + c and of gradients without c: what breaks the symmetry a little is seen."""
    model, symmetries = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02)
    with nm.Monitor(model, optimizer, symmetries, residuals=True, strict=True) as monitor:
        train(model, optimizer, range(20))
        with torch.no_grad():
            model.weight.add_(1e-3)  # type: ignore[operator]
        with pytest.warns(MonitorWarning, match="something other than the optimiser moved 6 charges"):
            train(model, optimizer, range(20, 30))
        with pytest.warns(MonitorWarning, match="does not obey the symmetry"):
            train(model, optimizer, range(30, 60), wrong=1.001)
    assert error(monitor.run, "identity").max() < 1e-12
