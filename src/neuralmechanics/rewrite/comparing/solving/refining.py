"""Gauss and Newton's method on the orbit: all continuous symmetries at once, from a point that is near already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep
from neuralmechanics.rewrite.comparing.parts.family_units import conjugate_gradients
from neuralmechanics.symmetry import Family

__all__ = ["refined"]

_HALVINGS = 5
_ENOUGH = 1e-26  # sum of squared relative gaps


def refined(
    families: Sequence[Family],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    hidden: Collection[str],
    *,
    most_steps: int = 12,
) -> list[FamilyStep]:
    """Steps of all families that bring b to a where it is near: quadratic convergence, however the families overlap.

    Each step solves min Σ ‖a - b - J w‖² / ‖a‖², tensor by tensor, by conjugate gradients on JᵀJ w = Jᵀ(a - b), J the
    generators of all families at b; it is halved until the sum falls.
    """
    names = [name for name in a if name not in hidden]
    sizes = {name: float(a[name].norm()) or 1.0 for name in names}
    current, steps = dict(b), []
    error = _error(a, current, sizes)
    for _ in range(most_steps):
        if error <= _ENOUGH:
            break
        amounts = _direction(families, a, current, sizes)
        moved, taken, found = current, [], error
        for halving in range(_HALVINGS):
            # Along the group, not along its tangent: every trial is a transformation.
            taken = [
                FamilyStep(family, family.action.exponential(weights * 0.5**halving))
                for family, weights in zip(families, amounts, strict=True)
            ]
            moved = current
            for step in taken:
                moved = step.transform(moved)
            found = _error(a, moved, sizes)
            if found < error:
                break
        if not found < error:
            break
        # Near a solution a step leaves far less than half: slow and far away there is none to come to.
        slow = found > 0.5 * error
        current, error = moved, found
        steps += taken
        if slow and error > 1e-2:
            break
    return steps


def _error(a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, float]) -> float:
    return sum(float((a[name] - b[name]).square().sum()) / size**2 for name, size in sizes.items())


def _direction(
    families: Sequence[Family], a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, float]
) -> list[Tensor]:
    """The weights of every family, by least squares."""
    probes = [torch.zeros(f.generator_shape, dtype=torch.float64, requires_grad=True) for f in families]
    with torch.enable_grad():
        fields = [
            (image, name)
            for family, probe in zip(families, probes, strict=True)
            for name, image in family.action.generator(b, probe).items()
            if name in sizes and image.requires_grad
        ]
    parts = [probe.numel() for probe in probes]
    if not fields:
        return [probe.detach() for probe in probes]

    def adjoint(values: Mapping[str, Tensor]) -> Tensor:
        given = [values[name] / sizes[name] ** 2 for _, name in fields]
        found = torch.autograd.grad([f for f, _ in fields], probes, given, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in found])

    def normal(w: Tensor) -> Tensor:
        image = {name: torch.zeros_like(b[name]) for name in sizes}
        for family, part in zip(families, torch.split(w, parts), strict=True):
            for name, step in family.action.generator(b, part.reshape(family.generator_shape)).items():
                if name in image:
                    image[name] = image[name] + step
        return adjoint(image)

    solved = conjugate_gradients(normal, adjoint({name: a[name] - b[name] for name in sizes}), most=400)
    return [
        part.reshape(family.generator_shape) for family, part in zip(families, torch.split(solved, parts), strict=True)
    ]
