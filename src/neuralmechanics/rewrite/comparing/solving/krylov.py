"""Linear systems that are known by what they do to a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["minimal_residual"]

_ENOUGH = 1e-14  # of the right-hand side
_NONE = 1e-14  # of an image: what is left of it when the space that there was is taken out
_FLAT = 1e-13  # singular values below this part of the greatest are none
_MOST = 400

Vector = Float64[Tensor, " unknowns"]


def minimal_residual(image: Callable[[Vector], Vector], right: Vector, most: int = _MOST) -> Vector:
    """x of least ‖A x - right‖ among combinations of right, A right, A² right, … (Saad & Schultz 1986).

    >>> matrix = torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64)
    >>> minimal_residual(lambda x: matrix @ x, torch.tensor([5.0, 6.0], dtype=torch.float64)).round(decimals=9).tolist()
    [1.0, 2.0]
    """
    size = float(right.norm())
    if not size > 0:
        return torch.zeros_like(right)
    basis, columns = [right / size], []
    solved = torch.zeros(0, 1, dtype=torch.float64)
    for k in range(min(most, len(right))):
        new = image(basis[k])
        start = float(new.norm())
        space = torch.stack(basis, 1)
        products = torch.zeros(k + 1, dtype=torch.float64)
        for _ in range(2):  # twice is enough
            part = space.mT @ new
            new, products = new - space @ part, products + part
        rest = float(new.norm())
        columns.append(torch.cat([products, torch.tensor([rest], dtype=torch.float64)]))
        matrix = torch.zeros(k + 2, k + 1, dtype=torch.float64)
        for j, column in enumerate(columns):
            matrix[: len(column), j] = column
        wanted = torch.zeros(k + 2, 1, dtype=torch.float64)
        wanted[0] = size
        solved = torch.linalg.lstsq(matrix, wanted, rcond=_FLAT, driver="gelsd")[0]
        off = float((matrix @ solved - wanted).norm())
        if not off > _ENOUGH * size or not rest > _NONE * start:
            break
        basis.append(new / rest)
    return torch.stack(basis[: len(solved)], 1) @ solved[:, 0]
