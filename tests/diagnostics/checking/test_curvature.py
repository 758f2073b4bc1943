"""Hessian products are right where nested forward mode is not, and the constraint notices the difference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.checking.norm_eps import norm_eps_residual
from neuralmechanics.diagnostics.checking.orbits import along, slope
from neuralmechanics.functional.derivatives.hessian_products import gradient_graph
from neuralmechanics.functional.pure_loss import Objective, trainable_parameters
from neuralmechanics.symmetry import Family

from .faults import batches, cross_entropy


def network(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 3)).double()


def nested_forward(objective: Objective, params: Mapping[str, Tensor], xi: Mapping[str, Tensor]) -> float:
    """ξᵀHξ by forward mode through forward mode: the wrong route."""
    moved = {name: torch.zeros_like(p) if name not in xi else xi[name] for name, p in params.items()}

    def loss(p: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            logits = functional_call(objective.model, dict(p), (objective.batch[0],))
        return nn.functional.cross_entropy(logits, objective.batch[1])

    def first(p: Mapping[str, Tensor]) -> Tensor:
        return torch.func.jvp(loss, (dict(p),), (moved,))[1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(torch.func.jvp(first, (dict(params),), (moved,))[1])


def test_nested_forward_mode_would_have_been_caught() -> None:
    """Through layer norm it breaks the constraint along the orbit by far; two reverse passes keep it to rounding."""
    model = network(nn.LayerNorm(6, eps=1e-20))
    objective = Objective(model, cross_entropy, batches()[0])
    params = trainable_parameters(model)
    (family,) = find_symmetries(model, batches()[0], cross_entropy).of_kind("scale")
    weights = torch.ones(family.size, dtype=torch.float64)
    graph = gradient_graph(objective, params)
    xi = family.generator(params, weights)
    second = family.second_derivative(xi, weights, params)
    bend = sum(float((graph.gradients[n].detach() * x).sum()) for n, x in second.items())
    right = sum(float((h * xi[n]).sum()) for n, h in graph.product(xi).items() if n in xi)
    size = sum(float((h * xi[n]).abs().sum()) for n, h in graph.product(xi).items() if n in xi)
    wrong = nested_forward(objective, params, xi)
    assert abs(right + bend) < 1e-13 * size
    assert abs(wrong + bend) > 1e-4 * size


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.BatchNorm1d(6), nn.GroupNorm(2, 6), nn.Identity()])
def test_hessian_products_equal_differences_of_gradients(norm: nn.Module) -> None:
    model = network(norm)
    objective, params = Objective(model, cross_entropy, batches()[0]), trainable_parameters(model)
    generator = torch.Generator().manual_seed(1)
    step = {n: 1e-6 * torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in params.items()}
    product = gradient_graph(objective, params).product(step)
    ahead, behind = (objective.gradient({n: p + sign * step[n] for n, p in params.items()})[1] for sign in (1, -1))
    difference = {n: (ahead[n] - behind[n]) / 2 for n in params}
    error = torch.cat([(product[n] - difference[n]).flatten() for n in params]).norm()
    assert error < 1e-7 * torch.cat([h.flatten() for h in product.values()]).norm()


@pytest.mark.parametrize("build", [
    lambda: nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)),
    lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3)),
])  # fmt: skip
def test_the_adjoint_is_the_transpose_of_the_generator(build: object) -> None:
    """⟨g, ξ(θ + z) - ξ(θ)⟩ = ⟨(∂ξ/∂θ)ᵀ g, z⟩ for random g and z, for every kind of family."""
    model = build().double()  # type: ignore[operator]
    params = trainable_parameters(model)
    generator = torch.Generator().manual_seed(2)
    symmetries = find_symmetries(model, batches()[0], cross_entropy)
    g, z = ({n: torch.randn(p.shape, generator=generator).double() for n, p in params.items()} for _ in range(2))
    for family in symmetries:
        weights = family.action.random_weights(generator)
        moved = family.generator({n: p + z[n] for n, p in params.items()}, weights)
        left = sum(float((g[n] * (m - x)).sum()) for (n, m), x in
                   zip(moved.items(), family.generator(params, weights).values(), strict=True))  # fmt: skip
        right = sum(float((a * z[n]).sum()) for n, a in family.adjoint(g, weights, params).items())
        assert left == pytest.approx(right, rel=1e-12, abs=1e-12), family
    assert {family.kind for family in symmetries} & {"linear", "affine", "scale"}


NORMS = {
    "batch": lambda eps: nn.BatchNorm1d(6, eps=eps),
    "layer": lambda eps: nn.LayerNorm(6, eps=eps),
    "root mean square": lambda eps: nn.RMSNorm(6, eps=eps),
    "group": lambda eps: nn.GroupNorm(2, 6, eps=eps),
    "instance": lambda eps: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, eps=eps), nn.Flatten()),
}


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("kind", NORMS)
def test_the_formula_of_norm_eps_predicts_the_residual(kind: str, eps: float) -> None:
    """⟨g, ξ⟩ = Σ eps/(σ² + eps) Σ ∂L/∂y y, to 1e-6 of itself, and the loss's slope along the orbit says the same."""
    model = network(NORMS[kind](eps))
    with torch.no_grad():  # gains and biases away from one and zero
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    objective, params = Objective(model, cross_entropy, batches()[0]), trainable_parameters(model)
    _, gradient = objective.gradient(params)
    families: list[Family] = [f for f in find_symmetries(model, batches()[0], cross_entropy) if f.broken_by]
    assert families
    for family in families:
        weights = family.action.random_weights(torch.Generator().manual_seed(1))
        measured = sum(float((gradient[n] * x).sum()) for n, x in family.generator(params, weights).items())
        path = along([(family, weights)], params)
        predicted = norm_eps_residual(objective, params, path)
        assert measured == pytest.approx(predicted, rel=1e-6)
        assert measured == pytest.approx(slope(objective, path, 1e-2), rel=1e-5)
