"""The stochastic flow: its covariance, its schemes' weak orders, no noise along generators, the law of balance."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import (
    GradientFlow,
    StochasticFlow,
    balance_rate,
    integrate,
    module_losses,
    noise_along_generators,
    simulate,
)
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.integration.stochastic.stochastic_paths import euler_maruyama_step, weak_second_order_step

from ..problems import DenseCharges, _cross_entropy, _mse, charges_of, data, network, network_loss, point


def _pair_losses(params: dict[str, Tensor]) -> Tensor:
    """Three examples of a path of two weights: noise that depends on the parameters."""
    x, y = params["x"]
    inputs = torch.tensor([1.0, -0.7, 1.4], dtype=torch.float64)
    answers = torch.tensor([1.3, 0.2, -0.4], dtype=torch.float64)
    return (x * y * inputs - answers).square() / 2


def test_noise_has_the_minibatch_covariance() -> None:
    flow = StochasticFlow(_pair_losses, learning_rate=0.3, batch_size=2)
    noise, x = flow.noise(point(0.8, 1.2)), torch.tensor([0.8, 1.2], dtype=torch.float64)
    columns = torch.stack([noise.along(x, unit) for unit in torch.eye(3, dtype=torch.float64)], dim=1)
    gradients = []
    for index in range(3):
        leaf = x.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(_pair_losses({"x": leaf})[index], leaf)[0])
    g = torch.stack(gradients)
    covariance = torch.cov(g.T, correction=0) / 2
    assert torch.allclose(columns @ columns.T, 0.3 * covariance, atol=1e-14)
    assert torch.allclose(noise.drift(x), -g.mean(0), atol=1e-14)
    # All minibatches of two without replacement, enumerated.
    pairs = torch.stack([g[[a, b]].mean(0) for a, b in itertools.combinations(range(3), 2)])
    without = StochasticFlow(_pair_losses, learning_rate=0.3, batch_size=2, replacement=False).noise(point(0.8, 1.2))
    columns = torch.stack([without.along(x, unit) for unit in torch.eye(3, dtype=torch.float64)], dim=1)
    assert torch.allclose(columns @ columns.T, 0.3 * torch.cov(pairs.T, correction=0), atol=1e-14)


class _Linear:
    """dx = Ax dt + Σ_j B_j x dW_j with matrices that do not commute: E[x xᵀ] obeys a linear equation."""

    A = torch.tensor([[-1.0, 0.4], [-0.3, -0.6]], dtype=torch.float64)
    B = torch.tensor([[[0.3, 0.5], [0.0, -0.2]], [[-0.1, 0.0], [0.6, 0.4]]], dtype=torch.float64)

    def drift(self, x: Tensor) -> Tensor:
        return self.A @ x

    def along(self, x: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("j,jab,b->a", weights, self.B, x)

    def exact(self, x: Tensor, time: float) -> Tensor:
        """E[x xᵀ] by the exponential of S ↦ AS + SAᵀ + Σ BSBᵀ."""
        eye = torch.eye(2, dtype=torch.float64)
        lift = torch.kron(self.A, eye) + torch.kron(eye, self.A) + sum(torch.kron(b, b) for b in self.B)
        return (torch.linalg.matrix_exp(time * lift) @ torch.outer(x, x).reshape(-1)).reshape(2, 2)


def _second_moment(scheme: str, x: Tensor, steps: int, time: float) -> Tensor:
    """E[x xᵀ] of the scheme itself, without sampling: every outcome of a step, weighted, on a basis of moments."""
    equation, h = _Linear(), time / steps
    outcomes: list[tuple[float, Tensor, Tensor]] = []
    values = {math.sqrt(3 * h): 1 / 6, -math.sqrt(3 * h): 1 / 6, 0.0: 2 / 3}
    for (first, p), (second, q) in itertools.product(values.items(), repeat=2):
        for coin in (1.0, -1.0):
            signs = torch.tensor([[-1.0, coin], [-coin, -1.0]], dtype=torch.float64)
            outcomes.append((p * q / 2, torch.tensor([first, second], dtype=torch.float64), signs))
    columns = []
    for i, j in itertools.product(range(2), repeat=2):
        # The scheme is linear in x, so xxᵀ ↦ E[x'x'ᵀ] is; polarise it on pairs of unit vectors.
        total = torch.zeros(2, 2, dtype=torch.float64)
        for weight, increments, signs in outcomes:
            ends = []
            for unit in torch.eye(2, dtype=torch.float64)[[i, j]]:
                if scheme == "weak2":
                    ends.append(weak_second_order_step(equation, unit, h, increments, signs))
                else:
                    ends.append(euler_maruyama_step(equation, unit, h, increments))
            total += weight * torch.outer(*ends)
        columns.append(total.reshape(-1))
    power = torch.linalg.matrix_power(torch.stack(columns, dim=1), steps)
    return (power @ torch.outer(x, x).reshape(-1)).reshape(2, 2)


@pytest.mark.parametrize(("scheme", "order"), [("euler_maruyama", 1), ("weak2", 2)])
def test_weak_orders(scheme: str, order: int) -> None:
    x = torch.tensor([1.0, -0.5], dtype=torch.float64)
    steps = (8, 16, 32)
    errors = [(_second_moment(scheme, x, count, 1.0) - _Linear().exact(x, 1.0)).abs().max() for count in steps]
    assert slope(torch.tensor([1 / count for count in steps]), torch.stack(errors)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("modified", "order"), [(False, 1), (True, 2)])
def test_sgd_is_modelled_to_its_weak_order(modified: bool, order: int) -> None:
    """Mean and mean square of SGD on ½a_i(x - b_i)², both in closed form for SGD and for the stochastic flow."""
    a = torch.tensor([1.0, 1.6, 0.7], dtype=torch.float64)
    b = torch.tensor([0.5, -1.0, 0.8], dtype=torch.float64)
    x0, time, errors, rates = 1.5, 1.0, [], (0.05, 0.025, 0.0125)
    for rate in rates:
        # SGD: x' = (1 - ηa)x + ηab; moments (1, E x, E x²) by one linear map a step.
        u, w = 1 - rate * a, rate * a * b
        sgd = torch.tensor(
            [[1, 0, 0], [w.mean(), u.mean(), 0], [(w * w).mean(), 2 * (u * w).mean(), (u * u).mean()]]
        ).double()
        # The flow: drift -(cx - d), noise variance η Var(a x - ab), read off the flow's own functions.
        flow = StochasticFlow(lambda p: a * (p["x"] - b).square() / 2, learning_rate=rate, modified=modified)
        noise = flow.noise(point(0.0))
        drift = [float(noise.drift(torch.tensor([v]).double())) for v in (0.0, 1.0)]
        columns = [
            torch.stack([noise.along(torch.tensor([v]).double(), e) for e in torch.eye(3).double()])[:, 0]
            for v in (0.0, 1.0)
        ]
        d0, d1, s0, s1 = drift[0], drift[1] - drift[0], columns[0], columns[1] - columns[0]
        rate_matrix = torch.tensor(
            [[0, 0, 0], [d0, d1, 0], [s0.dot(s0), 2 * d0 + 2 * s0.dot(s1), 2 * d1 + s1.dot(s1)]]
        ).double()
        start = torch.tensor([1, x0, x0**2]).double()
        exact = torch.linalg.matrix_power(sgd, round(time / rate)) @ start
        errors.append((torch.linalg.matrix_exp(time * rate_matrix) @ start - exact).abs().max())
    assert slope(torch.tensor(rates), torch.stack(errors)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("kind", ["relu", "softmax", "batch_norm"])
def test_noise_has_no_component_along_generators(kind: str) -> None:
    losses = module_losses(
        network(kind), _cross_entropy if kind == "softmax" else _mse, [data(seed=seed) for seed in range(4)]
    )
    whole = network_loss(kind)
    exact = noise_along_generators(losses, whole.theta0, charges_of(whole, kind))
    assert float(exact.max()) < 1e-14
    broken = DenseCharges(torch.ones(1, Layout.of(whole.theta0).size, dtype=torch.float64), ("scale",))
    assert float(noise_along_generators(losses, whole.theta0, broken).max()) > 1e-3


def test_law_of_balance_on_the_path_of_two_weights() -> None:
    """Q' = -η Var(s) Q, s = ∂ℓ/∂(xy): deterministic, although x and y are not."""
    charge = DenseCharges(torch.tensor([[1.0, -1.0]], dtype=torch.float64), ("rescale",))
    params, rate = point(0.4, 1.3), 0.1
    x, y = params["x"]
    inputs = torch.tensor([1.0, -0.7, 1.4], dtype=torch.float64)
    answers = torch.tensor([1.3, 0.2, -0.4], dtype=torch.float64)
    s = inputs * (x * y * inputs - answers)
    law = balance_rate(_pair_losses, params, charge, learning_rate=rate, weight_decay=0.2)
    spread = float(s.var(correction=0))
    assert float(law) == pytest.approx(float((-rate * spread - 2 * 0.2) * (x**2 - y**2)), rel=1e-12)
    both = balance_rate(_pair_losses, params, charge, learning_rate=rate, modified=True)
    assert float(both) == pytest.approx(float(-rate * s.square().mean() * (x**2 - y**2)), rel=1e-12)


def test_noise_balances_every_sample_path() -> None:
    """An Euler-Maruyama step moves Q by -Q (hs̄ - √(η/n) w·δs)² exactly, so the law of balance is its mean.

    s = ∂ℓ/∂(xy), w normal of variance h: the step's mean is -Q (h²s̄² + hη Var s), its variance Q²(4μ²σ² + 2σ⁴) with
    μ = hs̄, σ² = hη Var s. The deviations are a martingale: over N steps they are normal with the summed variance.
    """
    charge = DenseCharges(torch.tensor([[1.0, -1.0]], dtype=torch.float64), ("rescale",))
    inputs = torch.tensor([1.0, -0.7, 1.4], dtype=torch.float64)
    answers = torch.tensor([1.3, 0.2, -0.4], dtype=torch.float64)
    start, rate, h, paths = point(0.4, 1.3), 0.1, 0.005, 10
    flow = StochasticFlow(_pair_losses, learning_rate=rate)
    deviations = []
    for seed in range(paths):
        path = simulate(flow, start, [h * k for k in range(61)], charge, step=h, seed=seed)
        x, y = path.params["x"][:-1].T
        q, moved = path.charges[:-1, 0], path.charges[1:, 0] - path.charges[:-1, 0]
        s = inputs * (x[:, None] * y[:, None] * inputs - answers)
        mean, spread = h * s.mean(1), h * rate * s.var(1, correction=0)
        # Every single step draws the two weights together.
        assert bool((moved / q <= 1e-14).all())
        law = torch.cat([balance_rate(_pair_losses, path.at(k), charge, learning_rate=rate) for k in (0, 30)])
        assert torch.allclose(law, (-q * spread / h)[[0, 30]], rtol=1e-12)
        variance = q.square() * (4 * mean.square() * spread + 2 * spread.square())
        deviations.append((moved + q * (mean.square() + spread)).sum() / variance.sum().sqrt())
    scores = torch.stack(deviations)
    # 99.9 % of normal scores lie within 3.29, of their sum of squares over 10 between 1.27 and 31.4.
    assert float(scores.abs().max()) < 3.29
    assert 1.27 < float(scores.square().sum()) < 31.4


def test_paths_are_reproducible_and_shrink_to_gradient_flow() -> None:
    flow = StochasticFlow(_pair_losses, learning_rate=1e-8)
    quiet = simulate(flow, point(0.4, 1.3), [0, 0.5], scheme="weak2", step=0.05)
    mean = GradientFlow(lambda p: _pair_losses(p).mean())
    assert torch.allclose(quiet.final["x"], integrate(mean, point(0.4, 1.3), [0, 0.5]).final["x"], atol=2e-3)
    loud = StochasticFlow(_pair_losses, learning_rate=0.1)
    runs = [simulate(loud, point(0.4, 1.3), [0, 0.5], step=0.05, seed=seed).final["x"] for seed in (3, 3, 4)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_bad_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one loss an example"):
        simulate(StochasticFlow(lambda p: p["x"].sum(), learning_rate=0.1), point(1.0), [0, 1])
    with pytest.raises(ValueError, match="scheme is 'magic'"):
        simulate(StochasticFlow(_pair_losses, learning_rate=0.1), point(1, 1), [0, 1], scheme="magic")
    exploding = StochasticFlow(lambda p: -(p["x"].sum() ** 4) * torch.ones(2, dtype=torch.float64), learning_rate=0.1)
    path = simulate(exploding, point(2.0), [0, 1, 2])
    assert str(path.reason) in ("exploded", "not finite")
    assert path.times.tolist() == [0.0]
