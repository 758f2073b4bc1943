"""Sharpness of the function, not of its parameters; and the zeros that symmetries leave in a Hessian."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.flows import hessian_spectrum, module_loss, sharpness
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective

from ..problems import Standardise


class Attention(nn.Module):
    """One head of width 2, read as the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)
        self.out = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return self.out(torch.softmax(scores, -1) @ self.value(x)).mean(1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)),
    "norm": lambda: nn.Sequential(nn.Linear(3, 3), Standardise(), nn.Tanh(), nn.Linear(3, 2)),
    "linear pair": lambda: nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)),
    "attention": Attention,
}


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[1])


def planted(name: str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network and its own answers with a little noise: a minimum lies nearby."""
    torch.manual_seed(3)
    inputs = torch.randn(60, 4, 3) if name == "attention" else torch.randn(60, 3)
    model = MODELS[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        answers = model(inputs.double())
    return model, (inputs.double(), answers + 0.05 * torch.randn_like(answers))


def critical_point(objective: Objective, x: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's method with a damping that falls; the point and the dense Hessian there."""
    damping = 0.1
    for _ in range(60):
        point, slope = objective.recorded_gradient(x, 2)
        rows = [torch.autograd.grad(entry, point, retain_graph=True)[0] for entry in slope]
        values, vectors = torch.linalg.eigh((torch.stack(rows) + torch.stack(rows).T) / 2)
        if float(slope.detach().norm()) < 1e-12:
            return x, values
        step = -vectors @ ((vectors.T @ slope.detach()) / (values.abs() + damping))
        if objective.value(x + step) <= objective.value(x) + 1e-15:
            x, damping = x + step, max(damping / 5, 1e-9)
        else:
            damping *= 4
    raise AssertionError("no critical point was found")


@pytest.mark.parametrize(("name", "zeros"), [("relu", 3), ("norm", 6), ("linear pair", 6), ("attention", 12)])
def test_predicted_zeros_are_those_of_the_hessian_at_a_critical_point(name: str, zeros: int) -> None:
    model, batch = planted(name)
    loss = module_loss(model, squares, batch)
    layout = Layout.of(loss.theta0)
    x, values = critical_point(Objective(loss, layout), layout.flatten(loss.theta0))
    spectrum = hessian_spectrum(loss, layout.unflatten(x), find_symmetries(model, batch, squares))
    assert spectrum.zeros == zeros
    assert int((values.abs() < 1e-10 * values.abs().max()).sum()) == zeros
    assert spectrum.nullity() == 0
    assert spectrum.level < 1e-9


@pytest.mark.parametrize(("name", "amount"), [("relu", 3.0), ("norm", -3.0), ("linear pair", 3.3)])
def test_sharpness_is_one_number_on_an_orbit(name: str, amount: float) -> None:
    """The Euclidean one changes a hundredfold under a group element that leaves the function alone."""
    model, batch = planted(name)
    symmetries = find_symmetries(model, batch, squares)
    loss = module_loss(model, squares, batch)
    moved = dict(loss.theta0)
    generator = torch.Generator().manual_seed(3)
    for family in symmetries:
        shape = family.generator_shape
        weights = torch.randn(shape, generator=generator, dtype=torch.float64)
        if family.kind in ("scale", "rescale", "linear"):
            one = torch.eye(shape[-1], dtype=torch.float64) if len(shape) == 3 else torch.ones(shape).double()
            weights = amount * one + weights / 4
        moved = family.flow(moved, weights)
    assert float(loss(moved)) == pytest.approx(float(loss(loss.theta0)), rel=1e-9)
    ratio = sharpness(loss, moved) / sharpness(loss, loss.theta0)
    assert max(ratio, 1 / ratio) > 100
    assert sharpness(loss, moved, symmetries) == pytest.approx(sharpness(loss, loss.theta0, symmetries), rel=1e-6)
    here, there = (hessian_spectrum(loss, params, symmetries) for params in (loss.theta0, moved))
    torch.testing.assert_close(there.eigenvalues, here.eigenvalues, rtol=0, atol=1e-6 * here.sharpness)
    assert here.sharpness == pytest.approx(sharpness(loss, loss.theta0, symmetries), rel=1e-8)


def test_an_orbit_without_a_least_point_is_refused() -> None:
    """Of three hidden directions the readers see two: the third may shrink for ever."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).double()
    batch = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    loss = module_loss(model, squares, batch)
    with pytest.raises(ArithmeticError, match="no point of least norm"):
        sharpness(loss, loss.theta0, find_symmetries(model, batch, squares))


def test_dense_hessians_have_a_limit() -> None:
    with pytest.raises(ValueError, match="above largest=2"):
        hessian_spectrum(lambda p: p["x"].square().sum(), {"x": torch.ones(3)}, largest=2)


def test_sharpness_across_an_orbit_may_be_negative() -> None:
    """A bowl upside down, of a function of the product alone: the orbit's zeros are no eigenvalue across it."""
    model, batch = planted("linear pair")
    loss = module_loss(model, lambda module, data: -squares(module, data), batch)
    symmetries = find_symmetries(model, batch, squares)
    across = hessian_spectrum(loss, loss.theta0, symmetries).sharpness
    assert sharpness(loss, loss.theta0, symmetries) == pytest.approx(across, rel=1e-6)


@pytest.mark.parametrize("curvature", [-3.0, -1e-3, 2.0])
def test_sharpness_of_a_rescaled_pair_of_numbers(curvature: float) -> None:
    """c (xy)²/2 at x = y = 1, across x → ax, y → y/a: the largest eigenvalue of c [[1, 2], [2, 1]] along (1, 1)."""
    pair = find_symmetries(nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)), torch.ones(1, 1))
    ones = {name: torch.ones(1, 1, dtype=torch.float64) for name in ("0.weight", "1.weight")}

    def loss(params: Mapping[str, Tensor]) -> Tensor:
        return curvature * (params["0.weight"] * params["1.weight"]).square().sum() / 2

    assert sharpness(loss, ones, pair) == pytest.approx(3 * curvature, rel=1e-9)
