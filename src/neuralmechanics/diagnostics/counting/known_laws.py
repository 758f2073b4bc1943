"""The laws that known symmetries give under each optimiser, as gradients in its phase space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.exchanges import exchanges
from neuralmechanics.diagnostics.counting.optimizer_fields import (
    GradientFlow,
    HeavyBall,
    OptimizerFlow,
    SignDescent,
    WeightDecay,
)
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import Gap, matrix_rank
from neuralmechanics.symmetry.families.actions import Form

__all__ = [
    "KnownFamily",
    "KnownSymmetries",
    "Unit",
    "generator_rows",
    "held_units",
    "known_generators",
    "known_laws",
]


class KnownFamily(Protocol):
    """What is needed of a family: a basis of its generators and their forms, as ``Family`` gives them."""

    def units(self) -> Iterator[tuple[Form, Tensor]]: ...

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]: ...


KnownSymmetries = Sequence[KnownFamily]
_GRADIENTS: tuple[Form, ...] = ("constant", "diagonal", "symmetric")  # generators that are the gradient of a charge


@dataclass(frozen=True, eq=False)
class Unit:
    """One generator of a family, by its weights, and its value ξ at the place where it was asked for."""

    family: KnownFamily
    form: Form
    weights: Tensor
    xi: Float64[Tensor, " D"]

    @property
    def conserved(self) -> bool:
        """Whether ξ is the gradient of a charge, which gradient flow conserves."""
        return self.form in _GRADIENTS

    def at(self, potentials: Potentials, theta: Float64[Tensor, " D"]) -> Unit:
        """The same at another place."""
        return Unit(self.family, self.form, self.weights, _flat(potentials, self.family, theta, self.weights))


def held_units(
    potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, jacobian: Tensor, tolerance: float
) -> list[Unit]:
    """The generators that the functions' gradients at θ are orthogonal to; symmetries that fail there give none."""
    out = []
    size = float(jacobian.norm())
    for family in (*symmetries, *exchanges(symmetries)):
        for form, weights in family.units():
            xi = _flat(potentials, family, theta, weights)
            if _annihilated(jacobian, size, xi, tolerance):
                out.append(Unit(family, form, weights, xi))
    return out


def known_generators(
    potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, jacobian: Tensor, tolerance: float
) -> tuple[int, Gap]:
    """Rank at θ of all generators that the functions' gradients really are orthogonal to."""
    stacked = generator_rows(potentials, symmetries, theta, jacobian, tolerance)
    if not len(stacked):
        return 0, Gap(float("inf"), 0.0, "known generators")
    rank, _, gap = matrix_rank(stacked / stacked.norm(dim=1, keepdim=True), tolerance, "known generators")
    return rank, gap


def generator_rows(
    potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, jacobian: Tensor, tolerance: float
) -> Tensor:
    """The generators at θ that the functions' gradients really are orthogonal to, one a row."""
    kept = [unit.xi for unit in held_units(potentials, symmetries, theta, jacobian, tolerance)]
    return torch.stack(kept) if kept else theta.new_zeros(0, theta.numel())


def known_laws(
    flow: OptimizerFlow, potentials: Potentials, symmetries: KnownSymmetries, z: Tensor, jacobian: Tensor, tol: float
) -> tuple[Tensor, list[str]]:
    """Differentials at z of the laws that the known symmetries give, one a row, and their families.

    Symmetries that fail at θ give none. Gradient flow: the charge of every self-adjoint generator. Weight decay: the
    same times e^{kλt}. Heavy ball: e^{∫τ}vᵀAθ of every rotation, and both integrals of the linear equation of every
    translation. Sign descent: the generators that move at most two parameters, for those fix a sign relation between
    two gradients.
    """
    units = held_units(potentials, symmetries, flow.parameters_at(z), jacobian, tol)
    rows: list[Tensor] = []
    names: list[str] = []
    for unit in units:
        rows += _laws_of(flow, potentials, unit, z)
        names += [getattr(unit.family, "name", "an exchange of two vectors")] * (len(rows) - len(names))
    return (torch.stack(rows) if rows else z.new_zeros(0, z.numel())), names


def _laws_of(flow: OptimizerFlow, potentials: Potentials, unit: Unit, z: Tensor) -> list[Tensor]:
    family, form, weights, xi = unit.family, unit.form, unit.weights, unit.xi
    if isinstance(flow, SignDescent):
        return _sign_relation(xi)
    if isinstance(flow, HeavyBall):
        return _heavy_ball_laws(flow, potentials, family, form, weights, z, xi)
    if not unit.conserved:
        return []
    if isinstance(flow, GradientFlow):
        return [xi]
    theta = flow.parameters_at(z)
    if isinstance(flow, WeightDecay) and _about_zero(potentials, family, form, theta, weights):
        # Euler: kQ = ⟨θ, ∇Q⟩ for degree k, so this is the differential of e^{kλt}Q over e^{kλt}, whatever k is.
        return [torch.cat([(flow.weight_decay * theta @ xi)[None], xi])]
    return []


def _about_zero(potentials: Potentials, family: KnownFamily, form: Form, theta: Tensor, weights: Tensor) -> bool:
    """Whether ξ is constant or proportional to θ: decay then multiplies the charge by a number, else by none."""
    if form == "constant":
        return True
    once, twice = (_flat(potentials, family, factor * theta, weights) for factor in (1.0, 2.0))
    return bool(torch.allclose(twice, 2 * once, rtol=1e-9, atol=0))


def _heavy_ball_laws(
    flow: HeavyBall, potentials: Potentials, family: KnownFamily, form: Form, weights: Tensor, z: Tensor, xi: Tensor
) -> list[Tensor]:
    size = xi.numel()
    theta, velocity = z[1 : size + 1], z[size + 1 :]
    friction = float(flow.friction(z[0]) if callable(flow.friction) else flow.friction)
    if form == "constant":
        # x = ⟨θ, ξ⟩, y = ⟨v, ξ⟩ obey x' = y, y' = -τy - λx whatever the data: both forms vanish on every field.
        speed, place = velocity @ xi, theta @ xi
        return [
            torch.cat([-speed[None], xi, torch.zeros_like(xi)]),
            torch.cat([(friction * speed + flow.weight_decay * place)[None], torch.zeros_like(xi), xi]),
        ]
    if form == "antisymmetric":
        # The differential of e^{∫τ}vᵀAθ over e^{∫τ}: by θ it is Aᵀv = -Av.
        turned = _flat(potentials, family, velocity, weights)
        return [torch.cat([(friction * velocity @ xi)[None], -turned, xi])]
    return []


def _sign_relation(xi: Tensor) -> list[Tensor]:
    support = torch.nonzero(xi).flatten()
    if len(support) not in (1, 2):
        return []
    # ξᵢgᵢ + ξⱼgⱼ = 0: the two signs always agree or always differ, and so do the steps.
    row = torch.zeros_like(xi)
    row[support] = torch.tensor([1.0, float(xi[support].sign().prod())], dtype=xi.dtype)[: len(support)]
    return [row]


def _flat(potentials: Potentials, family: Any, theta: Tensor, weights: Tensor) -> Tensor:
    params = potentials.frozen | potentials.unflatten(theta.detach())
    return potentials.flatten(family.generator(params, weights))


def _annihilated(jacobian: Tensor, size: float, xi: Tensor, tolerance: float) -> bool:
    """Whether |J ξ| is zero against |J| |ξ|, and ξ is not; ``size`` is |J|."""
    length = float(xi.norm())
    return length > 0 and float((jacobian @ xi).norm()) <= tolerance * size * length
