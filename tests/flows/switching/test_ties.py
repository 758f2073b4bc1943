"""Zero pixels and dead units make ties that last: no flow may take them for events, and charges must not notice."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neuralmechanics.flows import GradientFlow, Path, drift_by_kind, integrate, module_loss
from neuralmechanics.flows.equation.module_loss import ModuleLoss
from neuralmechanics.flows.switching.held_choices import HeldChoices
from neuralmechanics.flows.switching.rules import RULES
from neuralmechanics.flows.switching.ties import displaced, equal_candidates
from neuralmechanics.symmetry import find_symmetries


def _mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _digits(first: int, count: int) -> tuple[Tensor, Tensor]:
    digits = load_digits()
    rows = slice(first, first + count)
    return torch.tensor(digits.data[rows] / 16).reshape(count, 1, 8, 8), torch.tensor(digits.target[rows])


def _distance(a: Path, b: Path) -> float:
    return max(float((a.final[name] - b.final[name]).abs().max()) for name in a.final)


def _half_dark(seed: int) -> ModuleLoss:
    """Two convolutions, ReLUs and pools on three rows of pixels whose first half is zero, many units dead."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv1d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(3, stride=1)),
        *(nn.Conv1d(3, 2, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2)),
    ).double()
    nn.init.constant_(model[0].bias, -0.1)
    inputs, answers = torch.rand(3, 1, 8, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    inputs[:, :, :4] = 0
    return module_loss(model, _mean_square, (inputs, answers))


def test_equal_candidates_are_those_of_equal_patches_and_dead_units() -> None:
    dead, live, twin = torch.tensor([-1.0, 2.0, 2.0], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        units = torch.stack([live * x[0], twin * x[0], x[1], dead * x[0], dead * x[1]]).relu()
        return units[:3].amax(0) + units[2:].amax(0) + units[3:].amax(0)

    x = torch.tensor([1.0, 0.5], dtype=torch.float64)
    with HeldChoices(RULES) as natural:
        loss(x)
    distant = displaced(x)
    with HeldChoices(RULES, tuple(natural.choices)) as away:
        loss(distant)
    found = equal_candidates(natural, away)
    rows = [found[call].tolist() for call in sorted(found)]
    assert rows == [[[True, True, False]], [[True, False, False]], [[True, True]]]


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 5])
def test_dead_and_equal_units_in_pools_leave_the_trajectory_to_the_tolerance(seed: int) -> None:
    """The same events at two tolerances, and the same end as fixed steps, at their first order."""
    loss = _half_dark(seed)
    coarse, fine = (
        integrate(GradientFlow(loss), loss.theta0, [0, 2], method="dopri5", rtol=rtol, atol=rtol).require_completed()
        for rtol in (1e-6, 1e-8)
    )
    assert len(coarse.event_times) == len(fine.event_times) > 0
    assert coarse.slides == fine.slides
    assert _distance(coarse, fine) < 1e-5
    step = 0.01
    plain = integrate(GradientFlow(loss), loss.theta0, [0, 2], step=step, estimate_error=False)
    assert _distance(plain, fine) < 0.2 * step


def _small_networks() -> list[nn.Sequential]:
    return [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 10)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 10)),
        nn.Sequential(
            *(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Flatten()),
            *(nn.Linear(18, 6), nn.ReLU(), nn.Linear(6, 10)),
        ),
    ]


def _digits_drift(network: int, seed: int, examples: int, horizon: float) -> None:
    torch.manual_seed(seed)
    model = _small_networks()[network].double()
    batch = _digits(examples * seed, examples)
    loss = module_loss(model, _cross_entropy, batch)
    charges = find_symmetries(model, batch, _cross_entropy)
    path = integrate(GradientFlow(loss), loss.theta0, [0, horizon], charges, "dopri5", rtol=1e-8, atol=1e-8)
    drift = drift_by_kind(path.require_completed(), charges.kinds)
    assert drift["rescale"] < 10 * 1e-8
    assert drift["translation"] < 1e-14


@pytest.mark.parametrize("network", range(5))
def test_charges_of_networks_on_digits_drift_with_the_tolerance(network: int) -> None:
    _digits_drift(network, seed=6, examples=4, horizon=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_charges_of_more_networks_on_more_digits(seed: int) -> None:
    _digits_drift(seed % 5, seed, examples=8, horizon=2.0)


@pytest.mark.slow
def test_slides_of_many_units_on_digits_keep_the_charges() -> None:
    """64-8-10 on 20 digits up to t = 4: 71 events, 17 slides, drift below ten times the tolerance at each."""
    inputs, answers = _digits(0, 20)
    batch = inputs.flatten(1), answers
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).double()
    loss = module_loss(model, _cross_entropy, batch)
    charges = find_symmetries(model, batch, _cross_entropy)
    for tolerance in (1e-6, 1e-8):
        path = integrate(GradientFlow(loss), loss.theta0, [0, 4], charges, "dopri5", rtol=tolerance, atol=tolerance)
        assert drift_by_kind(path.require_completed(), charges.kinds)["rescale"] < 10 * tolerance
        assert (len(path.event_times), path.slides) == (71, 17)
