"""Vector fields on R^n given by autograd, and their Lie brackets [u, v] = Dv·u - Du·v.

Every derivative is reverse mode (why: ``functional.derivatives``), so the product Dv·u of a general field is
taken by two reverse passes: g(y) = (Dv)ᵀy is linear in y, hence Dv·u = (∂g/∂y)ᵀu. For a gradient field Dv is symmetric
and one pass is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.functional.derivatives.higher_derivatives import derivatives

__all__ = ["Bracket", "Field", "GeneralField", "GradientField", "Scaled", "Sum", "bracket_with_scale", "gradient_of"]

Point = Float64[Tensor, " n"]


class Field(Protocol):
    """A differentiable vector field z ↦ v(z) with its directional derivative z, a ↦ Dv(z)·a."""

    def value(self, z: Point) -> Point: ...

    def derivative(self, z: Point, direction: Point) -> Point: ...


def gradient_of(value: Tensor, z: Tensor, weights: Tensor | None = None) -> Tensor:
    """(∂value/∂z)ᵀ·weights with its own graph; zero where ``value`` does not depend on z."""
    return derivatives(value, [z], weights, graph=True)[0]


@dataclass(frozen=True, eq=False)
class GradientField:
    """v = ∇φ of a scalar function φ: its derivative is the Hessian, which is symmetric."""

    potential: Callable[[Point], Tensor]

    def value(self, z: Point) -> Point:
        """∇φ(z)."""
        return gradient_of(self.potential(z), z)

    def derivative(self, z: Point, direction: Point) -> Point:
        """∇²φ(z)·direction."""
        return gradient_of(self.value(z), z, direction)


@dataclass(frozen=True, eq=False)
class GeneralField:
    """A field given by a function built of differentiable operations."""

    function: Callable[[Point], Point]

    def value(self, z: Point) -> Point:
        """v(z)."""
        return self.function(z)

    def derivative(self, z: Point, direction: Point) -> Point:
        """Dv(z)·direction, by two reverse passes."""
        value = self.function(z)
        # (Dv)ᵀy is linear in y: its derivative is the same at every y, zero included.
        probe = torch.zeros_like(value, requires_grad=True)
        return gradient_of(gradient_of(value, z, probe), probe, direction)


@dataclass(frozen=True, eq=False)
class Scaled:
    """A constant multiple of a field."""

    field: Field
    factor: float

    def value(self, z: Point) -> Point:
        """factor·v(z)."""
        return self.factor * self.field.value(z)

    def derivative(self, z: Point, direction: Point) -> Point:
        """factor·Dv(z)·direction."""
        return self.factor * self.field.derivative(z, direction)


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of fields."""

    fields: Sequence[Field]

    def value(self, z: Point) -> Point:
        """Σ v(z)."""
        return torch.stack([field.value(z) for field in self.fields]).sum(0)

    def derivative(self, z: Point, direction: Point) -> Point:
        """Σ Dv(z)·direction."""
        return torch.stack([field.derivative(z, direction) for field in self.fields]).sum(0)


@dataclass(frozen=True, eq=False)
class Bracket:
    """[u, v] = Dv·u - Du·v.

    >>> torch.set_default_dtype(torch.float64)
    >>> rotation, stretch = torch.tensor([[0.0, -1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> fields = [GeneralField(lambda z, m=m: m @ z) for m in (rotation, stretch)]
    >>> z = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> Bracket(*fields).value(z).tolist() == ((stretch @ rotation - rotation @ stretch) @ z).tolist()
    True
    >>> torch.set_default_dtype(torch.float32)
    """

    u: Field
    v: Field

    def parts(self, z: Point) -> tuple[Point, Point]:
        """Dv·u and Du·v."""
        return self.v.derivative(z, self.u.value(z)), self.u.derivative(z, self.v.value(z))

    def value(self, z: Point) -> Point:
        """[u, v](z)."""
        first, second = self.parts(z)
        return first - second

    def derivative(self, z: Point, direction: Point) -> Point:
        """D[u, v](z)·direction."""
        return GeneralField(self.value).derivative(z, direction)


def bracket_with_scale(fields: Sequence[Field], z: Point) -> tuple[Point, float]:
    """The right-normed bracket [u1, [u2, … [u_{k-1}, u_k]]] at z and the size that rounding must be judged by.

    The size of one bracket is |Dv·u| + |Du·v|, the numbers that cancel. A bracket that vanishes identically enters the
    next one as pure rounding, so its scale, multiplied by how strongly the outer field stretches (|Du·v|/|v|), stays
    the scale there: noise is never normalised up to a direction.
    """
    inner: Field = fields[-1]
    scale = float(inner.value(z).detach().norm())
    value = inner.value(z).detach()
    for outer in reversed(fields[:-1]):
        bracket = Bracket(outer, inner)
        first, second = (part.detach() for part in bracket.parts(z))
        size = float(value.norm())
        stretch = float(second.norm()) / size if size > 0 else 1.0
        scale = max(float(first.norm()) + float(second.norm()), stretch * scale)
        inner, value = bracket, first - second
    return value, scale
