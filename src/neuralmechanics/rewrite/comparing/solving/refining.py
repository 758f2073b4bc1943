"""Gauss and Newton's method on the orbit: all continuous symmetries at once, from a point that is near already."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep
from neuralmechanics.rewrite.comparing.parts.family_units import conjugate_gradients
from neuralmechanics.symmetry import Family

__all__ = ["refined"]

_HALVINGS = 5
_ENOUGH = 1e-26  # sum of squared relative gaps
_DENSE = 30_000_000  # numbers of J that are held at once
_FLAT = 1e-14  # eigenvalues of JᵀJ below this part of the greatest are none


def refined(
    families: Sequence[Family],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    hidden: Collection[str],
    *,
    most_steps: int = 12,
) -> list[FamilyStep]:
    """Steps of all families that bring b to a where it is near: quadratic convergence, however the families overlap.

    Each step solves min Σ ‖a - b - J w‖² / ‖a‖², tensor by tensor, J the generators of all families at b: exactly
    where J can be held, else by conjugate gradients; it is halved until the sum falls. Near an orbit a step leaves far
    less than half of the sum, and one that does not has none to come to: it is the last.
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
        slow = found > 0.5 * error
        current, error = moved, found
        steps += taken
        if slow:
            break
    return steps


def _error(a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, float]) -> float:
    return sum(float((a[name] - b[name]).square().sum()) / size**2 for name, size in sizes.items())


def _direction(
    families: Sequence[Family], a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, float]
) -> list[Tensor]:
    """The weights of every family, by least squares."""
    held = sum(_count(f) * sum(a[n].numel() for n in f.parameters if n in sizes) for f in families)
    if held <= _DENSE:
        return _solved(families, a, b, sizes)
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


def _count(family: Family) -> int:
    return math.prod(family.generator_shape)


def _solved(
    families: Sequence[Family], a: Mapping[str, Tensor], b: Mapping[str, Tensor], sizes: Mapping[str, float]
) -> list[Tensor]:
    """The same of least norm, from JᵀJ itself."""
    parts = [_count(family) for family in families]
    starts = [sum(parts[:k]) for k in range(len(parts) + 1)]
    met: dict[str, list[tuple[Tensor, Tensor]]] = {}  # of each tensor the numbers of its generators, and what they do
    for family, start in zip(families, starts, strict=False):
        for name, numbers, rows in _rows(family, b, sizes):
            met.setdefault(name, []).append((start + numbers, rows))
    normal = torch.zeros(starts[-1], starts[-1], dtype=torch.float64)
    right = torch.zeros(starts[-1], dtype=torch.float64)
    for name, found in met.items():
        index, rows = (torch.cat([pair[side] for pair in found]) for side in (0, 1))
        normal[index[:, None], index] += rows @ rows.mT
        right[index] += rows @ ((a[name] - b[name]) / sizes[name]).reshape(-1)
    # In units of the length of each generator, so that none is lost beside the others.
    units = normal.diagonal().clamp(min=0).sqrt()
    units = torch.where(units > 0, units, 1.0)
    values, vectors = torch.linalg.eigh(normal / units[:, None] / units)
    inverse = torch.where(values > _FLAT * values[-1:], 1 / values.clamp(min=1e-300), 0.0)
    solved = (vectors * inverse @ (vectors.mT @ (right / units))) / units
    return [
        part.reshape(family.generator_shape) for family, part in zip(families, torch.split(solved, parts), strict=True)
    ]


def _rows(family: Family, b: Mapping[str, Tensor], sizes: Mapping[str, float]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Of each tensor that a family moves the numbers of the generators that do, and what each of them does to it."""
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for k, one in enumerate(torch.eye(_count(family), dtype=torch.float64)):
        for name, image in family.action.generator(b, one.reshape(family.generator_shape)).items():
            if name in sizes and bool(image.any()):
                found.setdefault(name, []).append((k, image.reshape(-1) / sizes[name]))
    for name, pairs in found.items():
        yield name, torch.tensor([k for k, _ in pairs]), torch.stack([image for _, image in pairs])
