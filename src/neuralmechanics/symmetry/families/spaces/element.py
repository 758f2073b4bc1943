"""An element of the group of a space: a permutation, factors and signs, a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

__all__ = ["Element", "monomial"]


@dataclass(frozen=True, eq=False)
class Element:
    """A permutation, then factors, then a matrix; what is missing is the identity.

    ``permutation``: channel k becomes what channel permutation[k] was. ``factors``: for each direction of the space a
    factor a channel (±1, or positive). ``matrix``: A, of the space's own group. All but for the last dimensions of each
    are those of the copies.
    """

    permutation: Int64[Tensor, "*copies width"] | None = None
    factors: Float64[Tensor, "directions *copies width"] | None = None
    matrix: Float64[Tensor, "*copies width width"] | None = None


def monomial(
    matrix: Float64[Tensor, "*copies width width"],
) -> tuple[Int64[Tensor, "*copies width"], Float64[Tensor, "*copies width"]] | None:
    """The permutation and the factors of matrices with one entry a row and a column; None for others.

    >>> monomial(torch.tensor([[0.0, -2.0], [1.0, 0.0]], dtype=torch.float64))
    (tensor([1, 0]), tensor([-2.,  1.], dtype=torch.float64))
    """
    # Compared with zero exactly: a matrix that is monomial but for rounding is taken as it is.
    filled = matrix != 0
    if not bool((filled.sum(-1) == 1).all() and (filled.sum(-2) == 1).all()):
        return None
    return filled.to(torch.int64).argmax(-1), matrix.sum(-1)
