"""The norm's Hessian on an orbit, inverted roughly: each family by itself, and all families moved as wholes.

Through a deep network the norm bends least when whole layers are scaled one against the next. Each family by itself
sees nothing of that, and conjugate gradients would take as many steps as there are layers. One number a family is
enough to see it: the Hessian in these numbers is small, sparse as the network is, and solved at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from neuralmechanics.diagnostics.balancing.orbit import Direction, Orbit, masked

__all__ = ["preconditioner"]

_Solve = Callable[[Direction], Direction]


def preconditioner(orbit: Orbit, params: Mapping[str, Tensor], allowed: Sequence[Tensor]) -> _Solve:
    """The sum of both rough inverses of the Hessian 2⟨Xθ, Yθ⟩, on the allowed directions: symmetric and positive."""
    alone, together = _alone(orbit, params), _together(orbit, params, allowed)

    def solve(direction: Direction) -> Direction:
        pairs = zip(alone(direction), together(direction), strict=True)
        return masked([x + y for x, y in pairs], allowed)

    return solve


def _alone(orbit: Orbit, params: Mapping[str, Tensor]) -> _Solve:
    """As if no families shared elements: t / 2Σd²θ², and the Lyapunov equation of each block."""
    sizes = orbit.sizes(params)
    spectra = {k: torch.linalg.eigh(size) for k, size in enumerate(sizes) if size.ndim == 3}

    def solve(direction: Direction) -> Direction:
        out = []
        for k, (x, size) in enumerate(zip(direction, sizes, strict=True)):
            if k not in spectra:
                out.append(torch.where(size > 0, x / (2 * size), 0.0))
                continue
            values, vectors = spectra[k]
            sums = values[:, :, None] + values[:, None, :]
            regular = sums > 1e-12 * values[:, -1:, None]  # what has no weights cannot be moved
            # SX + XS = M in the eigenvectors of S: a division of every entry by the sum of two eigenvalues.
            solved = torch.where(regular, vectors.mT @ x @ vectors / sums, 0.0)
            out.append(vectors @ solved @ vectors.mT)
        return out

    return solve


def _together(orbit: Orbit, params: Mapping[str, Tensor], allowed: Sequence[Tensor]) -> _Solve:
    """All allowed directions of each family moved by one number."""
    wholes = masked([_unit(a) for a in allowed], allowed)
    hessian = _hessian(orbit, params, wholes)
    size = hessian.diagonal()
    # Families that move θ alike as wholes make the matrix singular, and one that moves nothing has a row of zeros.
    factors = splu((hessian + sparse.diags(np.where(size > 0, 1e-12 * size, 1.0))).tocsc())

    def solve(direction: Direction) -> Direction:
        forces = np.array([float((x * whole).sum()) for x, whole in zip(direction, wholes, strict=True)])
        return [float(t) * whole for t, whole in zip(factors.solve(forces), wholes, strict=True)]

    return solve


def _unit(allowed: Tensor) -> Tensor:
    """Every charge by the same factor; the identity of every block."""
    shape, device = allowed.shape, allowed.device
    if allowed.ndim == 1:
        return torch.ones(shape, dtype=torch.float64, device=device)
    return torch.eye(shape[-1], dtype=torch.float64, device=device).expand(shape)


def _hessian(orbit: Orbit, params: Mapping[str, Tensor], wholes: Direction) -> sparse.csr_matrix:
    """2⟨Xθ, Yθ⟩ of the families' wholes, parameter by parameter."""
    steps: dict[str, list[tuple[int, Tensor]]] = {}
    for number, (family, whole) in enumerate(zip(orbit.families, wholes, strict=True)):
        for name, step in family.action.generator(params, family.action.stretch(whole)).items():
            steps.setdefault(name, []).append((number, step))
    entries = [
        (2 * float((x * y).sum()), a, b) for moved in steps.values() for a, x in moved for b, y in moved
    ]  # fmt: skip
    values, rows, columns = zip(*entries, strict=True) if entries else ((), (), ())
    count = len(orbit.families)
    return sparse.csr_matrix((np.array(values), (rows, columns)), shape=(count, count))
