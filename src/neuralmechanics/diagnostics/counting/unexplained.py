"""Directions in which no function of a model changes, and which no known symmetry names: what they move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.diagnostics.counting.generic_point import Place, column_scale
from neuralmechanics.diagnostics.counting.known_laws import KnownSymmetries, generator_rows
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import matrix_rank

__all__ = ["Direction", "unexplained_directions"]


@dataclass(frozen=True, eq=False)
class Direction:
    """A step of the parameters, of length one, that changes no function at θ to first order.

    ``step``: by parameter, those alone that move. ``point``: θ itself, all parameters.
    """

    step: Mapping[str, Tensor]
    point: Mapping[str, Tensor]

    @property
    def shares(self) -> dict[str, float]:
        """The part of its squared length that lies in each parameter, the greatest first."""
        parts = {name: float(step.square().sum()) for name, step in self.step.items()}
        return dict(sorted(parts.items(), key=lambda item: -item[1]))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that it moves, the most moved first."""
        return tuple(self.shares)

    def __repr__(self) -> str:
        return "Direction(" + ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items()) + ")"


def unexplained_directions(
    potentials: Potentials, place: Place, symmetries: KnownSymmetries, tolerance: float
) -> tuple[Direction, ...]:
    """A basis of the directions of the fibre at θ beyond the known generators, each moving as little as can be.

    The basis is in echelon form: each direction has an element of its own, which no other moves. Costs a QR
    decomposition of all gradients, and nothing where all is explained.
    """
    count = place.theta.numel() - place.rank - place.generators
    if count <= 0:
        return ()
    scale = column_scale(place.rows)
    _, basis, _ = matrix_rank(place.rows / scale, tolerance)
    whole = torch.linalg.qr(basis, mode="complete").Q
    # What is orthogonal to rows/scale becomes, over the scale once more, orthogonal to the rows themselves.
    fibre = torch.linalg.qr(whole[:, basis.shape[1] :] / scale[:, None]).Q
    known = generator_rows(potentials, symmetries, place.theta, place.rows, tolerance)
    if len(known):
        left, sizes, _ = torch.linalg.svd(fibre.mT @ (known / known.norm(dim=1, keepdim=True)).mT)
        found = int((sizes > 1e-6 * sizes.max()).sum())
        fibre = fibre @ left[:, found:]
    echelon = _echelon(fibre)
    point = {name: value.detach().clone() for name, value in potentials.unflatten(place.theta.detach()).items()}
    return tuple(_direction(potentials, column, point) for column in echelon.mT)


def _direction(potentials: Potentials, flat: Tensor, point: Mapping[str, Tensor]) -> Direction:
    steps = potentials.unflatten(flat / flat.norm())
    return Direction({name: step for name, step in steps.items() if bool((step != 0).any())}, point)


def _echelon(basis: Tensor) -> Tensor:
    """The same space with a unit matrix in as many rows as it has columns; what is rounding there is zero."""
    from scipy.linalg import qr

    # Rows as independent as can be, or the solution below would magnify rounding.
    _, _, order = qr(basis.mT.numpy(), mode="economic", pivoting=True)
    chosen = torch.from_numpy(order[: basis.shape[1]].copy()).long()
    out: Tensor = torch.linalg.solve(basis[chosen].mT, basis.mT).mT
    return torch.where(out.abs() <= 1e-8 * out.abs().max(0).values, 0.0, out)
