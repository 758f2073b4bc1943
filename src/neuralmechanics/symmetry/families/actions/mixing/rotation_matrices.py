"""Matrices of the groups that rotate channels: made of their free entries, and held to the laws of their group."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.symmetry.families.actions.terms.gain import Dressing

__all__ = ["ALLOWED", "Group", "antisymmetric", "departure", "require_apart", "without_ones"]

Group = Literal["orthogonal", "centred", "general", "blind", "paired"]
ALLOWED = 1e-9  # departure of a matrix from its group: what float64 leaves of a product of rotations, not float32


def require_apart(matrix: Tensor, kept: Tensor, gains: Dressing) -> None:
    """`ValueError` where a matrix mixes channels whose gain is zero with others."""
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if not float(((matrix - unit) * ~kept).abs().max()) <= ALLOWED:
        names = " or ".join(dict.fromkeys(repr(gain.parameter) for gain, _ in gains))
        raise ValueError(
            f"the gain {names} has entries of zero: the matrix mixes these channels with others, which no reader can "
            "undo; fold the gains first, or give a matrix that keeps them apart"
        )


def departure(matrix: Tensor, group: Group, pairs: tuple[tuple[int, int], ...]) -> tuple[float, str]:
    """How far a matrix is from the group, and the law that it misses."""
    n = matrix.shape[-1]
    unit = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    if group == "blind":
        off = float((matrix - unit - (matrix - unit)[..., :1, :]).abs().max())
        return (off if _invertible(matrix) else math.inf), "an invertible 1 + 1·vᵀ, all rows of A - 1 alike"
    if group == "general":
        return (0.0 if _invertible(matrix) else math.inf), "an invertible matrix"
    off = float((matrix.mT @ matrix - unit).abs().max())
    if group == "paired":
        quarter = unit.new_zeros(n, n)
        for i, j in pairs:
            quarter[i, j], quarter[j, i] = 1.0, -1.0
        inside = unit + quarter.abs()
        beside = float((matrix * (1 - inside)).abs().max())
        return max(off, beside, float((matrix @ quarter - quarter @ matrix).abs().max())), "a rotation within each pair"
    if group == "orthogonal":
        return off, "AᵀA = 1"
    return max(off, float((matrix.sum(-1) - 1).abs().max()) / n**0.5), "AᵀA = 1 and A·1 = 1"


def _invertible(matrix: Tensor) -> bool:
    return bool(matrix.isfinite().all()) and bool((torch.linalg.cond(matrix) < 1 / ALLOWED).all())


def antisymmetric(weights: Tensor, n: int) -> Tensor:
    rows, columns = torch.triu_indices(n, n, 1, device=weights.device)
    out = weights.new_zeros(*weights.shape[:-1], n, n)
    out[..., rows, columns] = weights
    return out - out.mT


def without_ones(n: int) -> Float64[Tensor, "n rest"]:
    """An orthonormal basis of what is orthogonal to the all-ones vector (Helmert's)."""
    k = torch.arange(1, n, dtype=torch.float64)
    above = torch.arange(n)[:, None] < k
    basis = above.double() - torch.where(torch.arange(n)[:, None] == k, k, 0.0)
    return basis / (k * (k + 1)).sqrt()
