"""The orbit of a parameter point under rescale and linear families: moments, velocities, finite motions.

A *direction* is an element of the group's Lie algebra, one tensor a family: log-scales t of shape [charges] for
diagonal families (and complex pairs), symmetric matrices M of shape [blocks, width, width] for linear ones
(antisymmetric ones are rotations, which change no norm). The orbit is that of all families together, whether they
commute or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions import Action
from neuralmechanics.symmetry.families.family import Family

__all__ = ["Direction", "Orbit", "inner", "masked"]

Direction = list[Tensor]


def inner(x: Direction, y: Direction) -> float:
    """⟨x, y⟩ over all families (Frobenius for matrices)."""
    return float(sum((a * b).sum() for a, b in zip(x, y, strict=True)))


def masked(direction: Direction, allowed: Sequence[Tensor]) -> Direction:
    """The direction with zeros where it may not go."""
    return [torch.where(a, x, 0.0) for x, a in zip(direction, allowed, strict=True)]


@dataclass(frozen=True, eq=False)
class Orbit:
    """The families along which a point may move, all quadratic."""

    families: tuple[Family, ...]
    about: tuple[Action, ...] = ()

    @classmethod
    def of(cls, families: Iterable[Family]) -> Orbit:
        """The orbit of the rescale and linear families among the given ones; scales would shrink to nothing.

        Families that act about another point are those of θ + c here, for the c of ``origins``.
        """
        moving = [f for f in families if f.kind in ("rescale", "linear") and f.charges and f.action.stretches]
        return cls(tuple(replace(f, action=f.action.centred) for f in moving), tuple(f.action for f in moving))

    def origins(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """c of the parameters that have one."""
        found: dict[str, Tensor] = {}
        for action in self.about:
            point = action.point(params)
            found |= {n: point[n] - params[n] for n in action.parameters if point[n] is not params[n]}
        return found

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return tuple(dict.fromkeys(name for f in self.families for name in f.parameters))

    def norm(self, params: Mapping[str, Tensor]) -> float:
        """Σ θ² over the parameters that move."""
        return float(sum(params[name].square().sum() for name in self.parameters))

    def moments(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Direction:
        """μ with ⟨μ, X⟩ = ⟨Xa, b⟩ for every direction X, symmetrised in a and b. At a = b = θ these are the charges."""
        return [f.action.moment(a, b) for f in self.families]

    def sizes(self, params: Mapping[str, Tensor]) -> Direction:
        """What the Hessian of the norm would be if no families shared elements.

        Σ d² θ² for a diagonal charge, the sum P + N of both sides' Gram matrices for a block.
        """
        return [f.action.inertia(params) for f in self.families]

    def imbalance(self, params: Mapping[str, Tensor]) -> Direction:
        """|charge| relative to its size: 0 where balanced, 1 where one side is zero; 0 where both are."""
        out = []
        for moment, size in zip(self.moments(params, params), self.sizes(params), strict=True):
            if size.ndim == 3:
                # Cauchy-Schwarz bounds an entry off the diagonal by the root of the product of its two diagonal ones.
                root = size.diagonal(dim1=1, dim2=2).sqrt()
                size = root[:, :, None] * root[:, None, :]
            out.append(torch.where(size > 0, moment.abs() / size, 0.0))
        return out

    def velocity(self, params: Mapping[str, Tensor], direction: Direction) -> dict[str, Tensor]:
        """Xθ: the sum of all generators, on the parameters that move."""
        out = {name: torch.zeros_like(params[name]) for name in self.parameters}
        for family, weights in zip(self.families, direction, strict=True):
            for name, step in family.action.generator(params, family.action.stretch(weights)).items():
                out[name] += step
        return out

    def move(self, params: Mapping[str, Tensor], direction: Direction, length: float) -> dict[str, Tensor]:
        """The finite motion: the product over the families of exp(length · X) on θ, a retraction of second order."""
        moved = dict(params)
        for family, weights in zip(self.families, direction, strict=True):
            moved |= self.flow(family, moved, weights, length)
        return moved

    def flow(self, family: Family, params: Mapping[str, Tensor], weights: Tensor, length: float) -> dict[str, Tensor]:
        """exp(length · X) of one family on what it moves."""
        own = {name: params[name] for name in (*family.action.parameters, *family.action.inputs)}
        return family.flow(own, family.action.stretch(weights), length)
