"""The semidefinite complementarity problem: its three conditions, and the case with a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows.edge.complementarity import solve_complementarity, symmetric_pairs


def _symmetric(size: int, seed: int) -> Tensor:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix + matrix.T


def _apply(forms: Tensor, x: Tensor) -> Tensor:
    rows, columns, weight = symmetric_pairs(len(x))
    image = torch.zeros_like(x)
    image[rows, columns] = (forms @ (x[rows, columns] * weight)) / weight
    image[columns, rows] = image[rows, columns]
    return image


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_solution_meets_the_conditions(size: int, seed: int) -> None:
    constant = 100.0**seed * _symmetric(size, seed)
    pairs = size * (size + 1) // 2
    root = torch.randn(pairs, pairs + 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    forms = root @ root.T
    x = solve_complementarity(constant, forms)
    slack = constant + _apply(forms, x)
    unit = float(constant.abs().max())
    assert float(torch.linalg.eigvalsh(x)[0]) >= -1e-12 * unit
    assert float(torch.linalg.eigvalsh(slack)[0]) >= -1e-7 * unit
    assert abs(float((x * slack).sum())) <= 1e-7 * unit * float(x.norm())


@pytest.mark.parametrize("size", [3, 8, 12])
def test_of_gradients_that_nearly_depend_on_each_other(size: int) -> None:
    """B next to singular, condition 1e6: the solution is large and still meets the conditions."""
    pairs = size * (size + 1) // 2
    generator = torch.Generator().manual_seed(size)
    turned = torch.linalg.qr(torch.randn(pairs, pairs, generator=generator, dtype=torch.float64))[0]
    forms = turned @ torch.diag(torch.logspace(0, -6, pairs, dtype=torch.float64)) @ turned.T
    constant = _symmetric(size, 0)
    x = solve_complementarity(constant, (forms + forms.T) / 2)
    slack, length = constant + _apply(forms, x), float(x.norm())
    assert length > 10
    assert float(torch.linalg.eigvalsh(x)[0]) >= -1e-9 * length
    assert float(torch.linalg.eigvalsh(slack)[0]) >= -1e-6
    assert abs(float((x * slack).sum())) <= 1e-6 * length


def test_the_identity_projects() -> None:
    """With B = 1 the solution is the positive part of -A."""
    constant = _symmetric(4, 0)
    values, vectors = torch.linalg.eigh(-constant)
    expected = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
    found = solve_complementarity(constant, torch.eye(10, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_nothing_is_needed_where_all_eigenvalues_fall() -> None:
    constant = _symmetric(3, 0) + 20 * torch.eye(3, dtype=torch.float64)
    assert torch.equal(solve_complementarity(constant, torch.eye(6, dtype=torch.float64)), torch.zeros(3, 3).double())


def test_a_direction_that_nothing_holds_is_told() -> None:
    """B sees the first entry alone, and the second falls below zero whatever X is."""
    forms = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    with pytest.raises(ArithmeticError, match="no covariance of oscillations holds the eigenvalues"):
        solve_complementarity(-torch.eye(2, dtype=torch.float64), forms)


def test_no_solution_is_told() -> None:
    with pytest.raises(ArithmeticError, match="no covariance"):
        solve_complementarity(-torch.eye(2, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64))
