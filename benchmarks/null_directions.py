"""A basis of what a space has beyond a subspace, of vectors that move little: by groups of elements, then by pivots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["completing"]


def completing(fibre: Tensor, known: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """Directions that complete the known generators to a basis of the fibre.

    First those that move one group of elements alone, group by group, then others in as few elements as can be.
    """
    known = known[:, known.norm(dim=0) > 0]
    span = _span(known / known.norm(dim=0)) if known.shape[1] else fibre[:, :0]
    chosen = [fibre[:, :0]]
    for inside in [*groups, torch.ones(len(fibre), dtype=torch.bool)]:
        missing = fibre.shape[1] - span.shape[1]
        if missing <= 0:
            break
        within = _inside(fibre, inside)
        if not bool(_outside(within, span).norm() > 1e-6):
            continue
        alone = _echelon(within)
        beyond = _outside(alone, span)
        # of those that are not spanned, first the ones that move few elements
        picked = _independent(beyond / alone.norm(dim=0) / (alone != 0).sum(0).double().sqrt(), missing)
        chosen.append(alone[:, picked])
        added = torch.linalg.qr(beyond[:, picked] / beyond[:, picked].norm(dim=0))[0]
        span = torch.cat([span, torch.linalg.qr(_outside(added, span))[0]], dim=1)
    return torch.cat(chosen, dim=1)


def _outside(vectors: Tensor, span: Tensor) -> Tensor:
    """What vectors have beyond a span with an orthonormal basis; twice, for what rounding leaves the first time."""
    for _ in range(2):
        vectors = vectors - span @ (span.T @ vectors)
    return vectors


def _span(columns: Tensor) -> Tensor:
    """An orthonormal basis of what columns of length one span."""
    left, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-7 * sizes.max()] if columns.shape[1] else columns


def _inside(basis: Tensor, elements: Tensor) -> Tensor:
    """The vectors of a space (an orthonormal basis) of which all other elements vanish.

    Candidates are found among the few elements inside, where such a vector keeps its length; the others then decide.
    """
    if bool(elements.all()) or not basis.shape[1]:
        return basis
    _, lengths, right = torch.linalg.svd(basis[elements], full_matrices=False)
    near = basis @ right[lengths > 1 - 1e-9].T
    if not near.shape[1]:
        return near
    _, sizes, right = torch.linalg.svd(torch.linalg.qr(near[~elements], mode="r")[1], full_matrices=True)
    sizes = torch.cat([sizes, sizes.new_zeros(right.shape[0] - len(sizes))])
    return torch.where(elements[:, None], near @ right[sizes < 1e-8].T, 0.0)


def _echelon(basis: Tensor) -> Tensor:
    """The same space with a unit matrix in as many rows as it has columns; what is rounding there is zero."""
    from scipy.linalg import qr

    if not basis.shape[1]:
        return basis
    _, _, order = qr(basis.T.numpy(), mode="economic", pivoting=True)
    pivots = torch.from_numpy(order[: basis.shape[1]].copy()).long()
    out = torch.linalg.solve(basis[pivots].T, basis.T).T
    return torch.where(out.abs() <= 1e-8 * out.abs().amax(0), 0.0, out)


def _independent(columns: Tensor, most: int) -> Tensor:
    """Numbers of columns that span all of them, by QR decomposition with pivots; at most so many."""
    from scipy.linalg import qr

    if not columns.shape[1]:
        return torch.zeros(0, dtype=torch.long)
    _, upper, order = qr(columns.numpy(), mode="economic", pivoting=True)
    sizes = torch.from_numpy(upper.copy()).diagonal().abs()
    return torch.from_numpy(order[: min(most, int((sizes > 1e-7).sum()))].copy()).long()
