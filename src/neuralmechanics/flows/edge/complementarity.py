"""The semidefinite complementarity problem that fixes the covariance of oscillations at the edge of stability."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["solve_complementarity", "symmetric_matrix", "symmetric_pairs"]

_ITERATIONS = 20_000


def symmetric_pairs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the upper triangle, and √2 off the diagonal: entries times it make a symmetric matrix a
    vector with the same inner products."""
    rows, columns = torch.triu_indices(size, size)
    return rows, columns, torch.where(rows == columns, 1.0, math.sqrt(2)).to(torch.float64)


def solve_complementarity(
    constant: Float64[Tensor, "size size"], forms: Float64[Tensor, "pairs pairs"], tolerance: float = 1e-10
) -> Float64[Tensor, "size size"]:
    """X ⪰ 0 with A + B[X] ⪰ 0 and ⟨X, A + B[X]⟩ = 0, for a symmetric A and a positive semidefinite map B.

    ``forms`` is B on symmetric matrices written as vectors, see ``symmetric_pairs``. These are the conditions of the
    least ½⟨X, B[X]⟩ + ⟨A, X⟩ over X ⪰ 0, found by the alternating direction method: one small eigenproblem an
    iteration. For one dimension X = max(0, -A/B). Raises ``ArithmeticError`` where no such X is found: where B does not
    act on a direction in which A is negative there is none. Source: Cohen, Damian, Talwalkar, Kolter, Lee 2025.

    >>> minus = -torch.ones(1, 1, dtype=torch.float64)
    >>> solve_complementarity(minus, 4 * torch.ones(1, 1, dtype=torch.float64)).item()
    0.25
    """
    size = len(constant)
    rows, columns, weight = symmetric_pairs(size)
    a = constant[rows, columns] * weight
    if size == 1:
        return _single(float(a), float(forms))
    # Scaled so that one penalty and one tolerance serve every size of A and B.
    unit, curve = float(a.abs().max()), float(torch.linalg.matrix_norm(forms, 2))
    if unit == 0 or float(torch.linalg.eigvalsh(constant)[0]) >= 0:
        return torch.zeros_like(constant)
    if curve == 0:
        raise _unsolved(float("inf"))
    a, b = a / unit, forms / curve
    penalty = _penalty(b)
    factor = torch.linalg.cholesky(b + penalty * torch.eye(len(a), dtype=a.dtype))
    z = dual = torch.zeros_like(a)
    miss = float("inf")
    for _ in range(_ITERATIONS):
        x = torch.cholesky_solve((penalty * (z - dual) - a)[:, None], factor)[:, 0]
        before, z = z, _positive_part(x + dual, size)
        dual = dual + x - z
        miss = max(float((x - z).norm()), penalty * float((z - before).norm())) / (1 + float(z.norm()))
        if miss <= tolerance:
            return symmetric_matrix(z, size) * (unit / curve)
    raise _unsolved(miss)


def _single(a: float, b: float) -> Tensor:
    if a < 0 and b <= 0:
        raise _unsolved(-a)
    return torch.tensor([[max(0.0, -a / b) if a < 0 else 0.0]], dtype=torch.float64)


def _penalty(b: Tensor) -> float:
    """The geometric mean of the extreme eigenvalues, with the least kept off zero: the best rate for a known range."""
    values = torch.linalg.eigvalsh(b)
    return math.sqrt(max(float(values[0]), 1e-4) * float(values[-1]))


def _positive_part(vector: Tensor, size: int) -> Tensor:
    rows, columns, weight = symmetric_pairs(size)
    values, vectors = torch.linalg.eigh(symmetric_matrix(vector, size))
    positive: Tensor = (vectors * values.clamp(min=0)) @ vectors.T
    return positive[rows, columns] * weight


def symmetric_matrix(vector: Float64[Tensor, " pairs"], size: int) -> Float64[Tensor, "size size"]:
    """The symmetric matrix that is this vector, see ``symmetric_pairs``."""
    rows, columns, weight = symmetric_pairs(size)
    full = torch.zeros(size, size, dtype=vector.dtype)
    full[rows, columns] = vector / weight
    full[columns, rows] = vector / weight
    return full


def _unsolved(miss: float) -> ArithmeticError:
    return ArithmeticError(
        f"no covariance of oscillations holds the eigenvalues at the edge (residual {miss:.1e}): "
        "their gradients vanish or depend on each other there"
    )
