"""The laws that known symmetries give under each optimiser, as gradients in its phase space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from neuralmechanics.diagnostics.counting.optimizer_fields import (
    GradientFlow,
    HeavyBall,
    OptimizerFlow,
    SignDescent,
    WeightDecay,
)
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import Gap, matrix_rank

__all__ = ["KnownFamily", "KnownSymmetries", "known_generators", "known_laws", "unit_weights"]


class KnownFamily(Protocol):
    """What is needed of a family: its generators, as ``Family`` gives them."""

    @property
    def kind(self) -> str: ...

    @property
    def size(self) -> int: ...

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]: ...


KnownSymmetries = Sequence[KnownFamily]


def known_generators(
    potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, jacobian: Tensor, tolerance: float
) -> tuple[int, Gap]:
    """Rank at θ of all generators that the functions' gradients really are orthogonal to."""
    rows = [_flat(potentials, family, theta, weights) for family in symmetries for weights in unit_weights(family)]
    kept = [row for row in rows if _annihilated(jacobian, row, tolerance)]
    if not kept:
        return 0, Gap(float("inf"), 0.0, "known generators")
    stacked = torch.stack(kept)
    rank, _, gap = matrix_rank(stacked / stacked.norm(dim=1, keepdim=True), tolerance, "known generators")
    return rank, gap


def known_laws(
    flow: OptimizerFlow, potentials: Potentials, symmetries: KnownSymmetries, z: Tensor, jacobian: Tensor, tol: float
) -> Tensor:
    """Differentials at z of the laws that the known symmetries give, one a row; symmetries that fail at θ give none.

    Gradient flow: the charge of every self-adjoint generator. Weight decay: the same times e^{kλt}. Heavy ball:
    e^{∫τ}vᵀAθ of every rotation, and both integrals of the linear equation of every translation. Sign descent: the
    generators that move at most two parameters, for those fix a sign relation between two gradients.
    """
    theta = flow.parameters_at(z)
    rows: list[Tensor] = []
    for family in symmetries:
        for weights in unit_weights(family):
            xi = _flat(potentials, family, theta, weights)
            if not _annihilated(jacobian, xi, tol):
                continue
            if isinstance(flow, SignDescent):
                rows += _sign_relation(xi)
            elif family.kind == "affine" or (_gauge(family) and not _rotates(family)):
                continue
            elif isinstance(flow, HeavyBall):
                rows += _heavy_ball_laws(flow, potentials, family, weights, z, xi)
            elif _rotates(family):
                continue
            elif _self_adjoint(weights) and isinstance(flow, GradientFlow):
                rows.append(xi)
            elif _self_adjoint(weights) and isinstance(flow, WeightDecay):
                rows.append(torch.cat([(flow.weight_decay * theta @ xi)[None], xi]))
    return torch.stack(rows) if rows else z.new_zeros(0, z.numel())


def _heavy_ball_laws(
    flow: HeavyBall, potentials: Potentials, family: KnownFamily, weights: Tensor, z: Tensor, xi: Tensor
) -> list[Tensor]:
    size = xi.numel()
    theta, velocity = z[1 : size + 1], z[size + 1 :]
    friction = float(flow.friction(z[0]) if callable(flow.friction) else flow.friction)
    if family.kind == "translation":
        speed, place = velocity @ xi, theta @ xi
        return [
            torch.cat([-speed[None], xi, torch.zeros_like(xi)]),
            torch.cat([(friction * speed + flow.weight_decay * place)[None], torch.zeros_like(xi), xi]),
        ]
    if not _rotates(family) and (weights.ndim < 2 or _self_adjoint(weights)):
        return []
    turned = _flat(potentials, family, velocity, weights)
    return [torch.cat([(friction * velocity @ xi)[None], -turned, xi])]


def _sign_relation(xi: Tensor) -> list[Tensor]:
    support = torch.nonzero(xi).flatten()
    if len(support) not in (1, 2):
        return []
    row = torch.zeros_like(xi)
    row[support] = torch.tensor([1.0, float(xi[support].sign().prod())], dtype=xi.dtype)[: len(support)]
    return [row]


def unit_weights(family: KnownFamily) -> Iterator[Tensor]:
    """Unit weights of every generator; of linear blocks the symmetric matrices first, then the antisymmetric ones."""
    width = int(getattr(family, "width", 0))
    if not width:
        # a family may count rotations that no single weight drives: its weights are as many as its labels
        count = family.size if _gauge(family) else len(getattr(family, "labels", range(family.size)))
        yield from torch.eye(count, dtype=torch.float64)
        return
    for block in range(int(getattr(family, "blocks", 1))):
        for i in range(width):
            for j in range(width):
                weights = torch.zeros(int(getattr(family, "blocks", 1)), width, width, dtype=torch.float64)
                weights[block, i, j] = 1.0
                weights[block, j, i] = 1.0 if i <= j else -1.0
                yield weights


def _gauge(family: KnownFamily) -> Any:
    """The rotations or shears of a family that has no charges, else None."""
    return getattr(family, "gauge", None)


def _rotates(family: KnownFamily) -> bool:
    """Whether all generators are antisymmetric matrices in the parameters: rotations of a space without gains."""
    gauge = _gauge(family)
    return getattr(gauge, "group", "") in ("orthogonal", "centred") and not gauge.gains


def _self_adjoint(weights: Tensor) -> bool:
    return weights.ndim < 2 or bool((weights == weights.mT).all())


def _flat(potentials: Potentials, family: Any, theta: Tensor, weights: Tensor) -> Tensor:
    params = potentials.frozen | potentials.unflatten(theta.detach())
    return potentials.flatten(family.generator(params, weights))


def _annihilated(jacobian: Tensor, xi: Tensor, tolerance: float) -> bool:
    size = float(jacobian.norm() * xi.norm())
    return float(xi.norm()) > 0 and float((jacobian @ xi).norm()) <= tolerance * size
