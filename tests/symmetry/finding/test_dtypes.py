"""Parameters in half, double and complex precision: the same symmetries, charges in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics import find_symmetries


def network(params: dict[str, Tensor], x: Tensor) -> Tensor:
    return (x.to(params["w1"].dtype) @ params["w1"].T).abs() @ params["w2"].T


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_charges_are_float64_whatever_the_weights_are(dtype: torch.dtype) -> None:
    params = {"w1": torch.randn(6, 3).to(dtype), "w2": torch.randn(2, 6).to(dtype)}
    symmetries = find_symmetries(network, torch.randn(5, 3), params=params)
    assert symmetries.count()["rescale"] == 6
    charge = symmetries.charge(params)
    assert charge.dtype == torch.float64
    expected = params["w1"].double().square().sum(1) - params["w2"].double().square().sum(0)
    torch.testing.assert_close(charge, expected, rtol=1e-14, atol=1e-14)


def test_a_complex_layer_rescales_by_positive_factors() -> None:
    params = {"w1": torch.randn(6, 3, dtype=torch.complex128), "w2": torch.randn(2, 6, dtype=torch.float64)}
    x = torch.randn(5, 3, dtype=torch.float64)
    symmetries = find_symmetries(network, x, params=params)
    assert symmetries.count() == {"translation": 0, "scale": 0, "rescale": 6, "linear": 0}
    (family,) = symmetries
    moved = family.transform(params, torch.linspace(0.1, 10, 6, dtype=torch.float64))
    torch.testing.assert_close(network(moved, x), network(params, x), rtol=1e-13, atol=1e-13)
    expected = params["w1"].abs().square().sum(1) - params["w2"].square().sum(0)
    torch.testing.assert_close(symmetries.charge(params), expected, rtol=1e-13, atol=1e-13)


def test_gradients_of_a_complex_layer_keep_the_constraint() -> None:
    leaves = {"w1": torch.randn(6, 3, dtype=torch.complex128), "w2": torch.randn(2, 6, dtype=torch.float64)}
    params = {name: value.requires_grad_() for name, value in leaves.items()}
    x = torch.randn(5, 3, dtype=torch.float64)
    symmetries = find_symmetries(network, x, params={name: value.detach() for name, value in params.items()})
    loss = network(params, x).square().sum()
    gradients = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    residual = symmetries.residual(gradients, params)
    assert residual.abs().max() < 1e-12 * loss.abs()
