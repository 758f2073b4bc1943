"""The vector fields of each optimiser in the phase space where its conservation laws live.

A law is a function h on phase space with dh·(X₀ + Σ u_i X_i) = 0 for all controls u, where X₀ is the drift and the X_i
come from the gradients that some data can produce. Then dh vanishes on every iterated bracket of X₀ and the X_i, and
conversely (Frobenius, near a point where its dimension is constant) the number of independent laws is the codimension
of the Lie algebra evaluated there.

=================  =============  ==========================================  ========================
optimiser          phase space    drift X₀                                    X_φ
=================  =============  ==========================================  ========================
gradient flow      θ              none                                        ∇φ
weight decay λ     (t, θ)         (1, -λθ)                                    (0, ∇φ)
heavy ball τ(t)    (t, θ, v)      (1, v, -τ(t)v - λθ)                         (0, 0, ∇φ)
sign descent       θ              none                                        sign ∇φ
=================  =============  ==========================================  ========================

Time is a coordinate, so a law may depend on it (e^{2λt}Q(θ), e^{∫τ}θᵀAv); it is no law itself, since X₀ moves it.

Sources: Marcotte, Gribonval, Peyré, "Abide by the law and follow the flow: conservation laws for gradient flows"
(NeurIPS 2023), section 3; "Keep the momentum: conservation laws beyond Euclidean gradient flows" (ICML 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.lie_brackets import (
    Field,
    GeneralField,
    GradientField,
    Scaled,
    Sum,
    gradient_of,
)
from neuralmechanics.diagnostics.counting.potentials import Potentials

__all__ = ["GradientFlow", "HeavyBall", "OptimizerFlow", "SignDescent", "WeightDecay", "optimizer_flow"]

Scalar = Callable[[Tensor], Tensor]


class OptimizerFlow(Protocol):
    """An optimiser's phase space and the random fields X₀, X_φ in it."""

    def point(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """A generic point of phase space above θ."""
        ...

    def parameters_at(self, z: Tensor) -> Tensor:
        """θ of a point of phase space."""
        ...

    def rows(self, jacobian: Tensor, z: Tensor) -> Tensor:
        """The fields X₀ and X_φ at z, one a row, from the rows ∇φ."""
        ...

    def draw(self, potentials: Potentials, z: Tensor) -> Field:
        """A random combination of X₀ and X_φ, of size about 1 at z."""
        ...


@dataclass(frozen=True)
class GradientFlow:
    """θ' = -∇L: the fields are ∇φ on parameter space."""

    def point(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return theta

    def parameters_at(self, z: Tensor) -> Tensor:
        return z

    def rows(self, jacobian: Float64[Tensor, "rows D"], z: Tensor) -> Tensor:
        return jacobian

    def draw(self, potentials: Potentials, z: Tensor) -> Field:
        return _unit(GradientField(potentials.random_potential()), z)


@dataclass(frozen=True)
class WeightDecay:
    """θ' = -∇L - λθ on (t, θ): a charge Q homogeneous of degree k gives the law e^{kλt}Q.

    [X₀, X_φ] = (0, ∇(λ(φ - Σ θ_i ∂_iφ) + …)): decay separates the parts of φ of different degrees, so a law of
    gradient flow that is no sum of homogeneous ones may be lost.
    """

    weight_decay: float = 0.1

    def point(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        # A time that is nothing special: at t = 0 a friction such as 3/t has no value.
        return torch.cat([theta.new_tensor([1.3]), theta])

    def parameters_at(self, z: Tensor) -> Tensor:
        return z[1:]

    def rows(self, jacobian: Tensor, z: Tensor) -> Tensor:
        fields = torch.cat([jacobian.new_zeros(jacobian.shape[0], 1), jacobian], dim=1)
        return torch.cat([fields, self._drift(z)[None]])

    def _drift(self, z: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(z[:1]), -self.weight_decay * z[1:]])

    def draw(self, potentials: Potentials, z: Tensor) -> Field:
        lift = _Lift(potentials.random_potential(), slice(1, None), 1)
        return _mixture(GeneralField(self._drift), lift, z, potentials.generator)


@dataclass(frozen=True)
class HeavyBall:
    """θ'' + τ(t)θ' + λθ + ∇L = 0 on (t, θ, v = θ'); τ a number or a function of t made of torch operations.

    A rotation symmetry Aθ (A antisymmetric) gives e^{∫τ}·vᵀAθ, a translation along 1_A two laws: the equation of
    ⟨θ, 1_A⟩ is linear and not forced. Charges of scale and rescale are not conserved.

    The brackets [X_φ, [X₀, X_ψ]] = (0, 0, ∇⟨∇φ, ∇ψ⟩) are vertical lifts again, of the functions generated from the
    φ by the product ⟨∇φ, ∇ψ⟩. They are drawn directly, which replaces the two deepest levels by gradients.
    """

    friction: float | Callable[[Tensor], Tensor] = 0.3
    weight_decay: float = 0.0

    def point(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        velocity = torch.randn(theta.shape, generator=generator, dtype=theta.dtype) * theta.square().mean().sqrt()
        return torch.cat([theta.new_tensor([1.3]), theta, velocity])

    def parameters_at(self, z: Tensor) -> Tensor:
        return z[1 : (z.numel() - 1) // 2 + 1]

    def rows(self, jacobian: Tensor, z: Tensor) -> Tensor:
        fields = torch.cat([jacobian.new_zeros(jacobian.shape[0], 1 + jacobian.shape[1]), jacobian], dim=1)
        return torch.cat([fields, self._drift(z)[None]])

    def _drift(self, z: Tensor) -> Tensor:
        half = (z.numel() - 1) // 2
        time, theta, velocity = z[0], z[1 : half + 1], z[half + 1 :]
        friction = self.friction(time) if callable(self.friction) else self.friction
        return torch.cat([torch.ones_like(z[:1]), velocity, -friction * velocity - self.weight_decay * theta])

    def draw(self, potentials: Potentials, z: Tensor) -> Field:
        half = (z.numel() - 1) // 2
        depth = int(torch.randint(3, (), generator=potentials.generator))
        potential = potentials.random_potential()
        for _ in range(depth):
            potential = _product(potentials.random_potential(), potential)
        lift = _Lift(potential, slice(1, half + 1), half + 1)
        return _mixture(GeneralField(self._drift), lift, z, potentials.generator)


@dataclass(frozen=True)
class SignDescent:
    """θ' = -sign(g), g any combination of the gradients ∇φ.

    Between kinks a sign field is constant, so brackets add nothing and the Lie algebra is the span of the attainable
    sign vectors. Where g crosses ∂_iφ-combination = 0 alone, the i-th sign flips alone, so e_i lies in the span; only
    parameters with proportional columns of the Jacobian (g_i = c·g_j for every g) flip together. The dimension is the
    number of classes of proportional non-zero columns. The laws, θ_i - sign(c)·θ_j, hold until c changes sign.
    """

    def point(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return theta

    def parameters_at(self, z: Tensor) -> Tensor:
        return z

    def rows(self, jacobian: Tensor, z: Tensor, tolerance: float = 1e-9) -> Tensor:
        """A basis of the span of sign vectors, one row a class of proportional columns."""
        norms = jacobian.norm(dim=0)
        alive = norms > tolerance * norms.max()
        columns = torch.where(alive, jacobian / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
        # |cos| = 1 - ε²/2 would lose half of the digits: the distance to the line keeps them
        cosines = columns.mT @ columns
        signs = torch.where(cosines < 0, -1.0, 1.0).to(columns.dtype)
        basis: list[Tensor] = []
        free = alive.clone()
        for i in torch.nonzero(alive).flatten().tolist():
            if not bool(free[i]):
                continue
            # Candidates only; the distance below decides.
            near = free & (cosines[i].abs() > 0.999)
            distance = (columns * signs[i] - columns[:, i : i + 1]).norm(dim=0)
            members = near & (distance < tolerance)
            free &= ~members
            basis.append(torch.where(members, signs[i], 0.0))
        return torch.stack(basis) if basis else jacobian.new_zeros(0, jacobian.shape[1])

    def draw(self, potentials: Potentials, z: Tensor) -> Field:
        raise TypeError("sign descent has locally constant fields: its brackets vanish and none is drawn")


@dataclass(frozen=True, eq=False)
class _Lift:
    """The vertical lift (0, …, ∇φ(θ)) of a gradient; θ = z[part], the components start at ``offset``."""

    potential: Scalar
    part: slice
    offset: int

    def value(self, z: Tensor) -> Tensor:
        theta = z[self.part]
        return torch.cat([z.new_zeros(self.offset), gradient_of(self.potential(theta), theta)])

    def derivative(self, z: Tensor, direction: Tensor) -> Tensor:
        theta = z[self.part]
        gradient = gradient_of(self.potential(theta), theta)
        # ∇²φ is symmetric, so that one reverse pass gives its product.
        return torch.cat([z.new_zeros(self.offset), gradient_of(gradient, theta, direction[self.part])])


def _product(a: Scalar, b: Scalar) -> Scalar:
    return lambda theta: gradient_of(a(theta), theta) @ gradient_of(b(theta), theta)


def _unit(field: Field, z: Tensor) -> Field:
    size = float(field.value(z).detach().norm())
    return Scaled(field, 1.0 / size) if size > 0 else field


def _mixture(drift: Field, lift: Field, z: Tensor, generator: torch.Generator) -> Field:
    # Each of size one before it is mixed: a drift that is far longer would drown the gradient in its rounding.
    a, b = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
    return Sum((Scaled(_unit(drift, z), a), Scaled(_unit(lift, z), b)))


_NAMED: dict[str, Callable[[], OptimizerFlow]] = {
    "gradient_flow": GradientFlow,
    "weight_decay": WeightDecay,
    "heavy_ball": HeavyBall,
    "sign_descent": SignDescent,
}


def optimizer_flow(optimizer: str | OptimizerFlow) -> OptimizerFlow:
    """The optimiser's flow by name, with default constants, or as given.

    >>> optimizer_flow("weight_decay")
    WeightDecay(weight_decay=0.1)
    """
    if not isinstance(optimizer, str):
        if not hasattr(optimizer, "rows"):
            raise TypeError(
                f"the optimizer is a {type(optimizer).__name__}; laws are counted for one of {', '.join(_NAMED)}, or "
                "for an object such as HeavyBall(friction=lambda t: 3 / t)"
            )
        return optimizer
    if optimizer not in _NAMED:
        raise ValueError(
            f"no optimizer {optimizer!r} to count laws for; one of {', '.join(_NAMED)}, or an object such as "
            "HeavyBall(friction=lambda t: 3 / t)"
        )
    return _NAMED[optimizer]()
