"""The largest eigenpairs against dense linear algebra, repeated eigenvalues included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows.curvature.eigenpairs import largest_eigenpairs

SIZE = 120


def _matrix(values: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    turned = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))[0]
    return turned @ torch.diag(values) @ turned.T


def _values() -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("repeated", [0, 3, 6])
@pytest.mark.parametrize("count", [1, 4])
def test_eigenpairs_are_those_of_the_matrix(repeated: int, count: int) -> None:
    values = _values()
    values[:repeated] = 4.0
    matrix = _matrix(values)
    found, vectors = largest_eigenpairs(lambda v: matrix @ v, SIZE, count)
    torch.testing.assert_close(found, values.sort(descending=True)[0][:count], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix @ vectors, vectors * found, rtol=0, atol=1e-5)


def test_good_guesses_cost_one_product_each() -> None:
    matrix = _matrix(_values())
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(1)
        return matrix @ v

    _, vectors = largest_eigenpairs(product, SIZE, 4)
    calls.clear()
    largest_eigenpairs(product, SIZE, 4, start=vectors, tolerance=1e-5)
    assert len(calls) == 5  # and the one beyond the last


def test_a_tolerance_out_of_reach_is_told() -> None:
    matrix = _matrix(_values())
    with pytest.raises(ArithmeticError, match="loosen tolerance"):
        largest_eigenpairs(lambda v: matrix @ v, SIZE, 4, tolerance=0.0, most_products=200)
