"""The semidefinite complementarity problem that fixes the covariance of oscillations at the edge of stability."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["solve_complementarity", "symmetric_matrix", "symmetric_pairs"]

_ITERATIONS = 100
# What is good enough where rounding ends the progress, because B is next to singular.
_ENOUGH = 1e-7
# The start lies far inside the cone: from near the origin the way to a large X runs along the boundary.
_FAR = 1e3
# How much of the way to the boundary of the cone a step goes, and how much of the gap it aims to leave: more where the
# step before was short, which means that the boundary is near and the centre far.
_BOLDNESS, _CENTRING, _RECENTRING = 0.95, 0.1, 0.4


def symmetric_pairs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the upper triangle, and √2 off the diagonal: entries times it make a symmetric matrix a
    vector with the same inner products."""
    rows, columns = torch.triu_indices(size, size)
    return rows, columns, torch.where(rows == columns, 1.0, math.sqrt(2)).to(torch.float64)


def solve_complementarity(
    constant: Float64[Tensor, "size size"], forms: Float64[Tensor, "pairs pairs"], tolerance: float = 1e-10
) -> Float64[Tensor, "size size"]:
    """X ⪰ 0 with S = A + B[X] ⪰ 0 and ⟨X, S⟩ = 0, for a symmetric A and a positive semidefinite map B.

    ``forms`` is B on symmetric matrices written as vectors, see ``symmetric_pairs``. These are the conditions of the
    least ½⟨X, B[X]⟩ + ⟨A, X⟩ over X ⪰ 0, reached along the central path XS = μ, μ → 0, by Newton's steps: some
    twenty linear systems with as many unknowns as X has. For one dimension X = max(0, -A/B). Raises
    ``ArithmeticError`` where no such X is found: where B does not act on a direction in which A is negative there is
    none. Source: Cohen, Damian, Talwalkar, Kolter, Lee 2025; Helmberg, Rendl, Vanderbei, Wolkowicz 1996 for the step.

    >>> minus = -torch.ones(1, 1, dtype=torch.float64)
    >>> solve_complementarity(minus, 4 * torch.ones(1, 1, dtype=torch.float64)).item()
    0.25
    """
    size = len(constant)
    rows, columns, weight = symmetric_pairs(size)
    a = constant[rows, columns] * weight
    if size == 1:
        return _single(float(a), float(forms))
    # Scaled so that one start and one tolerance serve every size of A and B.
    unit, curve = float(a.abs().max()), float(torch.linalg.matrix_norm(forms, 2))
    # Below the edge: with A ⪰ 0 the solution is X = 0, S = A.
    if unit == 0 or float(torch.linalg.eigvalsh(constant)[0]) >= 0:
        return torch.zeros_like(constant)
    if curve == 0:
        raise _unsolved(float("inf"))
    a, b = a / unit, forms / curve
    identity = torch.eye(size, dtype=a.dtype)
    x = slack = identity * (_FAR * (1 + float(a.norm())))
    miss, reach = float("inf"), 1.0
    for _ in range(_ITERATIONS):
        gap = float((x * slack).sum()) / size
        lack = symmetric_matrix(a + b @ _vector(x), size) - slack
        miss = (gap + float(lack.norm())) / (1 + float(x.norm()))
        if miss <= tolerance:
            return x * (unit / curve)
        change = _newton_step(x, slack, lack, b, gap * (_CENTRING if reach > 0.5 else _RECENTRING))
        turned = lack + symmetric_matrix(b @ _vector(change), size)
        reach = min(1.0, _BOLDNESS * min(_room(x, change), _room(slack, turned)))
        if not reach > 1e-10:
            break
        x, slack = x + reach * change, slack + reach * turned
    if miss <= _ENOUGH:
        return x * (unit / curve)
    raise _unsolved(miss)


def _newton_step(x: Tensor, slack: Tensor, lack: Tensor, b: Tensor, target: float) -> Tensor:
    """D with D + ½(X E S⁻¹ + S⁻¹ E X) = μS⁻¹ - X, E = lack + B[D] the change of S: the linearised XS = μ."""
    size = len(x)
    rows, columns, weight = symmetric_pairs(size)
    inverse = torch.linalg.inv(slack)
    # All images B[·] of unit vectors at once, as matrices.
    images = torch.zeros(len(b), size, size, dtype=b.dtype)
    images[:, rows, columns] = images[:, columns, rows] = b.T / weight
    pushed = x @ images @ inverse
    pushed = (pushed + pushed.mT) / 2
    system = torch.eye(len(b), dtype=b.dtype) + (pushed[:, rows, columns] * weight).T
    owed = x @ lack @ inverse
    wanted = target * inverse - x - (owed + owed.T) / 2
    return symmetric_matrix(torch.linalg.solve(system, _vector((wanted + wanted.T) / 2)), size)


def _room(matrix: Tensor, change: Tensor) -> float:
    """The largest t with matrix + t·change ⪰ 0."""
    root, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        return 0.0
    inner = torch.linalg.solve_triangular(root, change, upper=False)
    inner = torch.linalg.solve_triangular(root, inner.T, upper=False)
    least = float(torch.linalg.eigvalsh((inner + inner.T) / 2)[0])
    return math.inf if least >= 0 else -1 / least


def _vector(matrix: Tensor) -> Tensor:
    rows, columns, weight = symmetric_pairs(len(matrix))
    return matrix[rows, columns] * weight


def _single(a: float, b: float) -> Tensor:
    if a < 0 and b <= 0:
        raise _unsolved(-a)
    return torch.tensor([[max(0.0, -a / b) if a < 0 else 0.0]], dtype=torch.float64)


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
