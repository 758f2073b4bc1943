"""Acceptance 1 and 4: the coefficients of the modified field against an independent package and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import ModifiedFlow, coefficients, velocity
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective, derivative
from neuralmechanics.flows.models import series
from neuralmechanics.flows.models.trees import formula, size, symmetry, trees

from ..problems import network_loss, point, quadratic, valley


def test_coefficients_are_the_published_ones() -> None:
    named = {formula(tree): value for tree, value in coefficients(4).items()}
    assert named == {
        "f": 1,
        "f'f": Fraction(-1, 2),
        "f'f'f": Fraction(1, 3),
        "f''(f, f)": Fraction(1, 6),
        "f'f'f'f": Fraction(-1, 4),
        "f'f''(f, f)": Fraction(-1, 6),
        "f''(f, f'f)": Fraction(-1, 12),
        "f'''(f, f, f)": 0,
    }


def test_coefficients_and_symmetries_equal_kauris() -> None:
    kauri = pytest.importorskip("kauri")
    logarithm = kauri.Map(lambda tree: 1 if tree.nodes() <= 1 else 0).log()

    def nested(tree: tuple) -> list:
        return [nested(branch) for branch in tree]

    for order in range(1, 7):
        for tree in trees(order):
            other = kauri.Tree(nested(tree))
            assert other.nodes() == size(tree)
            assert other.sigma() == symmetry(tree)
            assert float(logarithm(other)) == pytest.approx(float(coefficients(order)[tree]), abs=1e-13)


def _directional(field, w: Tensor, x: Tensor, u: Tensor) -> Tensor:
    """D_u w by two reverse passes, everything left on the tape."""
    covector = torch.zeros_like(w, requires_grad=True)
    (pulled,) = torch.autograd.grad(w, x, covector, create_graph=True)
    (pushed,) = torch.autograd.grad(pulled, covector, u, create_graph=True)
    return pushed


def test_tree_series_equals_the_recursion_of_the_theory() -> None:
    """f_n = -Σ_k 1/k! Σ_{i1+…+ik=n} D_{f_i1} … D_{f_i(k-1)} f_ik, coded as it is written."""
    rate = 0.3
    x = torch.tensor([0.7, 1.6], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(valley({"x": x}), x, create_graph=True)
    parts = {1: -gradient}

    def compositions(total: int, count: int):
        if count == 1:
            yield (total,)
            return
        for first in range(1, total - count + 2):
            for rest in compositions(total - first, count - 1):
                yield (first, *rest)

    for n in (2, 3, 4):
        total = torch.zeros_like(x)
        for k in range(2, n + 1):
            for indices in compositions(n, k):
                term = parts[indices[-1]]
                for index in reversed(indices[:-1]):
                    term = _directional(None, term, x, parts[index])
                total = total - term / math.factorial(k)
        parts[n] = total
    expected = sum(rate ** (n - 1) * part for n, part in parts.items())
    flow = ModifiedFlow(valley, learning_rate=rate, order=4, route="derivatives")
    assert torch.allclose(velocity(flow, {"x": x.detach()})["x"], expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_heavy_ball_decay_series_on_a_quadratic(beta: float) -> None:
    h, l = 0.03, 1.7  # noqa: E741 - l is the eigenvalue in the theory's formula
    rate = h / 0.8 if beta else h
    loss = quadratic(torch.tensor([[l]], dtype=torch.float64))
    flow = ModifiedFlow(
        loss, learning_rate=rate, momentum=beta, dampening=0.2 if beta else 0.0, order=3, route="derivatives",
        shift_start=False,
    )  # fmt: skip
    decay = -float(velocity(flow, point(1.0))["x"])
    series = (
        l / (1 - beta)
        + h * l**2 * (1 + beta) / (2 * (1 - beta) ** 3)
        + h**2 * l**3 * (1 + 4 * beta + beta**2) / (3 * (1 - beta) ** 5)
    )
    assert decay == pytest.approx(series, rel=1e-13)
    # Through order 7 the series is that of -log(z)/h, z the slow root of z² - (1+β-hl)z + β = 0.
    small = 0.02 * (1 - beta) ** 2
    exact = -math.log(_slow_root(beta, small)) / small
    weights = coefficients(7, Fraction(beta))
    chains = [()]
    for _ in range(6):
        chains.append((chains[-1],))
    partial = -sum(float(weights[c]) * small ** (size(c) - 1) * (-1.0) ** size(c) for c in chains)
    assert -partial == pytest.approx(-exact, rel=2e-7) or partial == pytest.approx(exact, rel=2e-7)


def _slow_root(beta: float, hl: float) -> float:
    middle = (1 + beta - hl) / 2
    return middle + math.sqrt(middle**2 - beta)


def test_gradient_and_general_routes_share_their_derivatives() -> None:
    from neuralmechanics.flows import ModifiedFieldFlow
    from neuralmechanics.flows.equation.objective import named_gradient

    loss = network_loss("tanh", width=2)

    def field(params: dict[str, Tensor]) -> dict[str, Tensor]:
        names = list(params)
        slopes = torch.autograd.grad(loss(params), [params[name] for name in names], create_graph=True)
        return {name: -slope for name, slope in zip(names, slopes, strict=True)}

    general = velocity(ModifiedFieldFlow(field, time_step=0.2, order=4, loss=loss), loss.theta0)
    special = velocity(ModifiedFlow(loss, learning_rate=0.2, order=4, route="derivatives"), loss.theta0)
    for name, slope in named_gradient(loss, loss.theta0).items():
        assert torch.allclose(general[name], special[name], rtol=1e-12, atol=1e-13)
        assert not torch.allclose(special[name], -slope)


def test_each_tree_costs_one_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differentials share what they have in common: of all trees of at most eight nodes no part is taken twice."""
    calls = []

    def counted(scalar: Tensor, variable: Tensor, *, graph: bool) -> Tensor:
        calls.append(1)
        return derivative(scalar, variable, graph=graph)

    monkeypatch.setattr(series, "derivative", counted)
    layout = Layout.of(point(0.4, 1.3))
    objective = Objective(valley, layout)

    def source(x: Tensor) -> tuple[Tensor, Tensor]:
        where, slope = objective.recorded_gradient(x, 6)
        return where, -slope

    weights = series.coefficients(6)
    series.series_field(source, weights, 0.1, gradient=True)(layout.flatten(point(0.4, 1.3)))
    assert len(calls) <= len(weights) - 1
