"""The matrix of a group that brings some rows nearest to others: Procrustes' problem, and Sylvester's equation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

__all__ = ["Pair", "fit_matrix", "nearest_rotation"]

Pair = tuple[Float64[Tensor, "width rest"], Float64[Tensor, "width rest"]]  # what is wanted, and what there is
_WORST = 1e-8  # least singular value of an answer, in parts of the greatest
_FLAT = 1e-12  # eigenvalues below this part of the greatest are none


def fit_matrix(
    group: str,
    forward: Sequence[Pair],
    dual: Sequence[Pair],
    *,
    free: bool = True,
    alive: Bool[Tensor, " width"] | None = None,
) -> tuple[Tensor, float]:
    """The A of the group that minimises Σ‖A X' - X‖² + Σ‖Aᵀ Y - Y'‖², and that sum.

    Pairs are (X, X') of what transforms with A and (Y, Y') of what transforms with A⁻ᵀ. Rotations by Procrustes'
    singular vectors; general matrices by A (Σ X'X'ᵀ) + (Σ YYᵀ) A = Σ XX'ᵀ + Σ YY'ᵀ, or, where they are not ``free``,
    by rotations. ``alive``: channels that are not mixed with the others, whose gain is zero somewhere.

    >>> x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    >>> turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> found, off = fit_matrix("orthogonal", [(turn @ x, x)], [])
    >>> torch.allclose(found, turn), off < 1e-20
    (True, True)
    """
    if alive is not None and not bool(alive.all()):
        matrix = _apart(group, forward, dual, alive, free)
    elif group == "general linear" and free:
        matrix = _general(forward, dual)
    else:
        wanted = sum((a @ b.mT for a, b in (*forward, *dual)), torch.zeros(()))
        matrix = nearest_rotation(wanted, ones=group == "ones-preserving orthogonal")
    off = sum(float((matrix @ b - a).square().sum()) for a, b in forward)
    off += sum(float((matrix.mT @ a - b).square().sum()) for a, b in dual)
    return matrix, off


def _apart(
    group: str, forward: Sequence[Pair], dual: Sequence[Pair], alive: Bool[Tensor, " width"], free: bool
) -> Float64[Tensor, "width width"]:
    """A matrix for the channels that are alive and one for the others; what keeps the ones keeps all."""
    matrix = torch.eye(len(alive), dtype=torch.float64)
    for chosen in (alive, ~alive) if group != "ones-preserving orthogonal" else ():
        if bool(chosen.any()):
            own = [[(a[chosen], b[chosen]) for a, b in pairs] for pairs in (forward, dual)]
            places = chosen.nonzero().flatten()
            matrix[places[:, None], places] = fit_matrix(group, own[0], own[1], free=free)[0]
    return matrix


def nearest_rotation(matrix: Float64[Tensor, "width width"], *, ones: bool = False) -> Float64[Tensor, "width width"]:
    """The orthogonal A that maximises tr Aᵀ M, of either determinant; with ``ones`` among those with A·1 = 1."""
    n = len(matrix)
    if not ones:
        u, _, v = torch.linalg.svd(matrix)
        turned: Tensor = u @ v
        return turned
    unit = torch.full((n, 1), n**-0.5, dtype=torch.float64)
    # Orthonormal, with the ones in front: what keeps these acts on the other columns alone.
    basis = torch.linalg.qr(torch.cat([unit, torch.eye(n, dtype=torch.float64)[:, : n - 1]], 1))[0][:, 1:]
    inside: Tensor = basis @ nearest_rotation(basis.mT @ matrix @ basis) @ basis.mT + unit @ unit.mT
    return inside


def _general(forward: Sequence[Pair], dual: Sequence[Pair]) -> Float64[Tensor, "width width"]:
    n = len((*forward, *dual)[0][0])
    zero = torch.zeros(n, n, dtype=torch.float64)
    # Both sides in units of their own size, so that neither is lost beside the other.
    size = [1 / max(sum(float(b.square().sum()) for _, b in forward), 1e-300)] * len(forward)
    size += [1 / max(sum(float(a.square().sum()) for a, _ in dual), 1e-300)] * len(dual)
    right = sum((s * b @ b.mT for s, (_, b) in zip(size, forward, strict=False)), zero)
    left = sum((s * a @ a.mT for s, (a, _) in zip(size[len(forward) :], dual, strict=True)), zero)
    wanted = sum((s * a @ b.mT for s, (a, b) in zip(size, (*forward, *dual), strict=True)), zero)
    rates, u = torch.linalg.eigh(left)
    columns, v = torch.linalg.eigh(right)
    # In the eigenbases of both sides Sylvester's equation is a division entry by entry.
    total = rates.clamp(min=0)[:, None] + columns.clamp(min=0)
    open_ones = total <= _FLAT * total.max()
    inside = torch.where(open_ones, 0.0, (u.mT @ wanted @ v) / total.where(~open_ones, torch.ones(())))
    inside = torch.where(open_ones, _completion(open_ones), inside)
    return _invertible(u @ inside @ v.mT)


def _invertible(matrix: Float64[Tensor, "width width"]) -> Float64[Tensor, "width width"]:
    """The matrix with its smallest singular values raised: what no element fits has an answer all the same."""
    left, values, right = torch.linalg.svd(matrix)
    if not float(values[0]) > 0:
        return torch.eye(len(matrix), dtype=torch.float64)
    least = _WORST * values[0]
    return matrix if bool(values[-1] >= least) else left @ torch.diag(values.clamp(min=least)) @ right


def _completion(open_ones: Tensor) -> Tensor:
    """A partial identity where nothing determines the matrix, so that it has an inverse."""
    rows, columns = torch.nonzero(open_ones.any(1)).reshape(-1), torch.nonzero(open_ones.any(0)).reshape(-1)
    out = torch.zeros(open_ones.shape, dtype=torch.float64)
    count = min(len(rows), len(columns))
    out[rows[:count], columns[:count]] = 1.0
    return out
