"""Sharpness and Hessian spectra of a loss, as they stand and with its symmetries removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.curvature.eigenpairs import largest_eigenpairs
from neuralmechanics.flows.curvature.representative import exact_symmetries, orbit_directions, representative
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective, derivative
from neuralmechanics.symmetry.families.symmetries import Symmetries

__all__ = ["HessianSpectrum", "hessian_spectrum", "sharpness"]


@dataclass(frozen=True)
class HessianSpectrum:
    """Eigenvalues of a Hessian across its symmetry directions, falling, and what was removed.

    ``zeros`` is the number of independent symmetry directions at the point. At a critical point each is an exact zero
    of the whole Hessian; elsewhere Hξ = -(∂ξ/∂θ)ᵀg. ``level`` is the largest |Hξ| over them, relative to the largest
    eigenvalue: how exact these zeros are. ``params`` is the point at which the Hessian was taken.
    """

    eigenvalues: Float64[Tensor, " eigenvalues"]
    zeros: int
    level: float
    params: dict[str, Tensor]

    @property
    def sharpness(self) -> float:
        """The largest eigenvalue."""
        return float(self.eigenvalues[0])

    def nullity(self, tolerance: float = 1e-7) -> int:
        """How many eigenvalues are zero beyond those removed: |λ| below ``tolerance`` times the largest."""
        return int((self.eigenvalues.abs() < tolerance * self.eigenvalues.abs().max()).sum())


def hessian_spectrum(
    loss: Loss, params: Mapping[str, Tensor], symmetries: Symmetries | None = None, *, largest: int = 3000
) -> HessianSpectrum:
    """All eigenvalues of the Hessian at θ, or those that belong to the function of θ alone.

    With ``symmetries`` the Hessian is taken at the representative of θ's orbit, where rescale and linear charges
    vanish, scale charges are 1 and shifts are least, and restricted to what is orthogonal to the orbit there: every
    point of an orbit has the same spectrum. Symmetries that a constant breaks (a norm's eps) are left in.
    Cost: one dense Hessian, of at most ``largest`` parameters.

    >>> spectrum = hessian_spectrum(lambda p: (p["x"][0] * p["x"][1] - 1) ** 2 / 2, {"x": torch.tensor([2.0, 0.5])})
    >>> [round(value, 4) + 0.0 for value in spectrum.eigenvalues.tolist()], spectrum.zeros
    ([4.25, 0.0], 0)
    """
    point, orbit, objective = _taken(loss, params, symmetries)
    if len(point) > largest:
        raise ValueError(
            f"a dense Hessian of {len(point)} parameters is above largest={largest}: use sharpness(), or raise largest"
        )
    variable, slope = objective.recorded_gradient(point, 2)
    with torch.enable_grad():
        rows = torch.stack([derivative(entry, variable, graph=False) for entry in slope])
    hessian = (rows + rows.T) / 2
    # The columns of a complete QR behind the first are an orthonormal basis of all that is orthogonal to the orbit.
    across = (
        torch.linalg.qr(orbit, mode="complete")[0][:, orbit.shape[1] :] if orbit.shape[1] else torch.eye(len(point))
    )
    across = across.to(hessian)
    values = torch.linalg.eigvalsh(across.T @ hessian @ across).flip(0)
    size = float(values.abs().max().clamp(min=1e-300)) if len(values) else 1.0
    level = float((hessian @ orbit).norm(dim=0).max()) / size if orbit.shape[1] else 0.0
    return HessianSpectrum(values, orbit.shape[1], level, objective.layout.unflatten(point))


def sharpness(
    loss: Loss, params: Mapping[str, Tensor], symmetries: Symmetries | None = None, *, tolerance: float = 1e-5
) -> float:
    """The largest eigenvalue of the Hessian at θ; with ``symmetries``, that of the function of θ alone.

    Rescaling two layers against each other changes no output and may change the Euclidean sharpness a thousandfold;
    with ``symmetries`` it is taken at the representative of the orbit, across the orbit, see ``hessian_spectrum``, and
    is one number for all its points. By Hessian products: for networks of any size.

    >>> sharpness(lambda p: 2 * p["x"] ** 2, {"x": torch.tensor(3.0)})
    4.0
    """
    point, orbit, objective = _taken(loss, params, symmetries)
    variable, slope = objective.recorded_gradient(point, 2)

    def across(vector: Tensor) -> Tensor:
        return vector - orbit @ (orbit.T @ vector)

    def product(vector: Tensor) -> Tensor:
        with torch.enable_grad():
            return across(derivative(slope.dot(across(vector)), variable, graph=False))

    def top(of: Callable[[Tensor], Tensor]) -> float:
        return float(largest_eigenpairs(of, len(point), 1, tolerance=tolerance)[0][0])

    if orbit.shape[1] == len(point):
        raise ValueError("the orbit of the symmetries has every direction: nothing is left across it")
    value = top(product)
    if not orbit.shape[1]:
        return value
    # Along the orbit the map is zero, which is its largest value where the Hessian is negative everywhere across it:
    # then the zeros are moved below all that there is.
    lowest = -top(lambda vector: -product(vector))
    if value > tolerance * abs(lowest):
        return value
    return top(lambda vector: product(vector) + 2 * lowest * (orbit @ (orbit.T @ vector)))


def _taken(loss: Loss, params: Mapping[str, Tensor], symmetries: Symmetries | None) -> tuple[Tensor, Tensor, Objective]:
    """Where the Hessian is to be taken, and the directions to be left out."""
    layout = Layout.of(params)
    objective = Objective(loss, layout)
    if symmetries is None:
        point = layout.flatten(params)
        return objective.require(point, 2), torch.empty(layout.size, 0, dtype=torch.float64), objective
    exact = exact_symmetries(symmetries)
    chosen = representative(exact, params)
    point = objective.require(layout.flatten(chosen), 2)
    return point, orbit_directions(exact, chosen), objective
