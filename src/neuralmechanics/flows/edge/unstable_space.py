"""The eigenvectors of the Hessian near the threshold of stability, followed along a path, and how the Hessian turns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.curvature.eigenpairs import largest_eigenpairs
from neuralmechanics.flows.edge.complementarity import symmetric_pairs
from neuralmechanics.flows.equation.objective import Objective, derivative
from neuralmechanics.flows.equation.stop import Halt, StopReason

__all__ = ["UnstableSpace", "entry_gradients", "largest_curvature"]

# Eigenvalues within this share of the threshold may reach it within a step or two.
_NEAR = 0.05
# Residual of an eigenvector, relative to the sharpness: its square enters the eigenvalue.
_RESIDUAL = 1e-4


class UnstableSpace:
    """The largest eigenpairs of P⁻¹H, with those of the last point kept as guesses for the next."""

    def __init__(self, threshold: float, most_directions: int) -> None:
        self.threshold, self.most = threshold, most_directions
        self.guess: Tensor | None = None
        self.count = 2

    def near(self, values: Tensor) -> int:
        """How many of the eigenvalues are near the threshold or above it."""
        return int((values > (1 - _NEAR) * self.threshold).sum())

    def find(self, point: Tensor, slope: Tensor, root: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Eigenvalues, falling, and U with UᵀPU = 1: all near the threshold and the next one, which is below.

        ``slope`` is the gradient at ``point`` on the tape, ``root`` the diagonal P^{-1/2}, absent for P = 1.
        """

        product, size = _product(point, slope, root), len(point)
        most, count = min(self.most, size), min(self.count, size)
        followed = self.guess is not None
        while True:
            values, vectors = largest_eigenpairs(
                product, size, count, start=self.guess, tolerance=_RESIDUAL, device=point.device
            )
            near = self.near(values)
            self.guess, self.count = vectors, min(max(2, near + 1), size)
            # One eigenvalue below the border shows that none above it is missing.
            if near < count or count == size:
                return values, vectors if root is None else root[:, None] * vectors
            if count == most:
                raise Halt(
                    StopReason.STIFF,
                    f"{near} eigenvalues of the Hessian are at the edge of stability: raise most_directions, now "
                    f"{self.most}",
                )
            # Along a path they come one by one; at its start there may be any number.
            count = min(count + 1 if followed else 2 * count, most)


def _product(point: Tensor, slope: Tensor, root: Tensor | None) -> Callable[[Tensor], Tensor]:
    """v ↦ P^{-1/2} H P^{-1/2} v."""

    def product(vector: Tensor) -> Tensor:
        along = vector if root is None else root * vector
        image = derivative(slope.dot(along), point, graph=False)
        return image if root is None else root * image

    return product


def largest_curvature(objective: Objective, root: Tensor | None = None) -> Callable[[Tensor], float]:
    """x ↦ the largest eigenvalue of P⁻¹H there, each found from the eigenvectors of the one before."""
    guess: list[Tensor | None] = [None]

    def largest(x: Tensor) -> float:
        point, slope = objective.recorded_gradient(x, 2)
        with torch.enable_grad():
            values, guess[0] = largest_eigenpairs(
                _product(point, slope, root), len(x), 1, start=guess[0], tolerance=_RESIDUAL, device=x.device
            )
        return float(values[0])

    return largest


def entry_gradients(
    point: Tensor, slope: Tensor, vectors: Float64[Tensor, "parameters directions"]
) -> Float64[Tensor, "pairs parameters"]:
    """∇(uᵢᵀHuⱼ) with the vectors held, a row for each pair i ≤ j, times √2 off the diagonal: third derivatives."""
    rows, columns, weight = symmetric_pairs(vectors.shape[1])
    products = [derivative(slope.dot(u), point, graph=True) for u in vectors.T]
    found = [
        derivative(products[j].dot(vectors[:, i]), point, graph=False)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return torch.stack(found) * weight.to(point.device)[:, None]
