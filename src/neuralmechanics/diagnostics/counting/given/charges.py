"""Charges that somebody gives as functions of the parameters: verified, counted as known laws, and evaluated.

A function h is a law of gradient flow where its gradient is orthogonal to that of every function φ of training, at
every θ. It is tried at the place of the count and at random ones: an analytic h that is orthogonal there is so
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.point_moves import fresh_place
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.functional.derivatives.higher_derivatives import derivatives

__all__ = ["Charge", "ChargeFunction", "GivenCharge", "verified_charges"]

ChargeFunction = Callable[[Mapping[str, Tensor]], Tensor]
# Random places at which a charge is tried, and gradients at each.
_PLACES, _GRADIENTS = 3, 64


@dataclass(frozen=True, eq=False)
class Charge:
    """A charge that was given: its values at the model's own parameters, and whether gradient flow conserves it.

    ``residual``: the greatest cosine between its gradient and one of a function that training may follow.
    """

    name: str
    values: Float64[Tensor, " entries"]
    conserved: bool
    residual: float

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.values.tolist())
        return f"{self.name} = {shown}" if self.conserved else f"{self.name}: not conserved ({self.residual:.0e})"


@dataclass(frozen=True, eq=False)
class GivenCharge:
    """A charge with its gradients at the place of the count."""

    charge: Charge
    gradients: Float64[Tensor, "entries D"]


def verified_charges(
    potentials: Potentials,
    given: Mapping[str, ChargeFunction],
    theta: Float64[Tensor, " D"],
    jacobian: Float64[Tensor, "rows D"],
    tolerance: float,
) -> list[GivenCharge]:
    """Each charge tried at θ, against the gradients there, and at random places; ValueError where one is not finite."""
    if not given:
        return []
    if not isinstance(given, Mapping) or not all(map(callable, given.values())):
        raise TypeError(f"charges is a {type(given).__name__}; give functions of the named parameters by name")
    places = [(theta, jacobian)]
    for _ in range(_PLACES):
        at = fresh_place(potentials)
        places.append((at, torch.cat(list(potentials.gradients(at, _GRADIENTS)))))
    return [_verified(potentials, name, function, places, tolerance) for name, function in given.items()]


def _verified(
    potentials: Potentials, name: str, function: ChargeFunction, places: list[tuple[Tensor, Tensor]], tolerance: float
) -> GivenCharge:
    gradients = [_gradients(potentials, function, theta) for theta, _ in places]
    values = _values(potentials, function, potentials.origin).detach()
    if not all(bool(torch.isfinite(x).all()) for x in (values, *gradients)):
        raise ValueError(f"the charge {name!r} or its gradient is not finite; give a function that is, at every place")
    cosines = [_cosine(rows, jacobian) for rows, (_, jacobian) in zip(gradients, places, strict=True)]
    residual = max(cosines)
    return GivenCharge(Charge(name, values, residual <= tolerance, residual), gradients[0])


def _values(potentials: Potentials, function: ChargeFunction, theta: Tensor) -> Tensor:
    named = potentials.frozen | potentials.unflatten(theta)
    try:
        value = function(named)
    except KeyError as error:
        raise ValueError(f"a charge reads the parameter {error}; the model has {', '.join(named)}") from error
    return torch.as_tensor(value).double().reshape(-1)


def _gradients(potentials: Potentials, function: ChargeFunction, theta: Tensor) -> Tensor:
    leaf = theta.detach().clone().requires_grad_()
    values = _values(potentials, function, leaf)
    return torch.stack([derivatives(value, [leaf], graph=False)[0].detach() for value in values])


def _cosine(rows: Tensor, jacobian: Tensor) -> float:
    """The greatest |⟨∇h, ∇φ⟩| over the length of ∇h and that of the longest ∇φ."""
    lengths = rows.norm(dim=1).clamp_min(1e-300)
    longest = float(jacobian.norm(dim=1).max().clamp_min(1e-300)) if len(jacobian) else 1.0
    return float(((jacobian @ rows.mT).abs() / lengths).max()) / longest if len(jacobian) else 0.0
