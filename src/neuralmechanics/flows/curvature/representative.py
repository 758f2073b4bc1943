"""One point of each orbit of the symmetries, defined up to rotations: where curvature is a property of the function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.symmetries import Symmetries

__all__ = ["exact_symmetries", "orbit_directions", "representative"]

_ROUNDS = 500
# Log-scale below which a round changed nothing; the curvature is then known to about this accuracy.
_SETTLED = 1e-11
# Singular value, relative to the largest, below which two generators move θ alike.
_INDEPENDENT = 1e-9


def exact_symmetries(symmetries: Symmetries) -> Symmetries:
    """Those that nothing breaks: along the others, such as scales under a norm's eps, the loss does change."""
    return replace(symmetries, families=tuple(f for f in symmetries if f.exact))


def representative(symmetries: Symmetries, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The point of least Σθ² on the orbit of θ under all that is not a scale, with every scale charge 1; float64.

    Rescale and linear charges vanish there (Kempf & Ness 1979), shifts are at their least norm. Two points of one
    orbit have representatives that differ by a rotation at most, and rotations change no curvature. Found by turns, for
    each kind shares elements with the others. Raises ``ArithmeticError`` where that does not settle.
    """
    layout = Layout.of(params)
    point = layout.unflatten(layout.flatten(params))
    shifts = [f for f in symmetries if f.kind in ("translation", "affine")]
    scales = [f for f in symmetries if f.kind == "scale" and f.charges]
    moving = replace(symmetries, families=tuple(f for f in symmetries if f.kind in ("rescale", "linear")))
    for _ in range(_ROUNDS):
        before = layout.flatten(point)
        for family in shifts:
            point = _least_shift(family, point)
        if len(moving):
            point = _balanced(moving, point)
        for family in scales:
            point = _unit_scale(family, point)
        after = layout.flatten(point)
        # One kind by itself is at its minimum after one turn; turns are repeated for kinds that disturb one another.
        if not (shifts and len(moving)) and not scales:
            return point
        if float((after - before).abs().max()) <= _SETTLED * float(after.abs().max()):
            return point
    raise ArithmeticError(
        f"the representative of the orbit was not found in {_ROUNDS} rounds: a unit whose weights are all but zero on "
        "one side has none; remove it, or pass fewer symmetries"
    )


def orbit_directions(symmetries: Symmetries, params: Mapping[str, Tensor]) -> Float64[Tensor, "parameters directions"]:
    """An orthonormal basis of what the generators span at θ: the directions in which the loss is level.

    >>> import neuralmechanics as nm
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> orbit_directions(nm.find_symmetries(model, torch.randn(5, 3)), dict(model.named_parameters())).shape[1]
    4
    """
    layout = Layout.of(params)
    point = layout.unflatten(layout.flatten(params))
    rows = [_row(layout, family.generator(point, weights)) for family in symmetries for _, weights in family.units()]
    lengths = [float(row.norm()) for row in rows]
    kept = [row / length for row, length in zip(rows, lengths, strict=True) if length > 0]
    if not kept:
        return torch.empty(layout.size, 0, dtype=torch.float64)
    left, sizes, _ = torch.linalg.svd(torch.stack(kept, 1), full_matrices=False)
    independent: Tensor = left[:, sizes > _INDEPENDENT * sizes[0]]
    return independent


def _row(layout: Layout, step: Mapping[str, Tensor]) -> Tensor:
    zeros = dict(zip(layout.names, (torch.zeros(shape, dtype=torch.float64) for shape in layout.shapes), strict=True))
    return layout.flatten(zeros | {name: value for name, value in step.items() if name in zeros})


def _least_shift(family: Family, point: dict[str, Tensor]) -> dict[str, Tensor]:
    """θ moved along the family to where Σθ² is least: linear in the amounts, so by least squares."""
    layout = Layout.of({name: point[name] for name in family.parameters})
    moved = {name: point[name] for name in layout.names}
    units = [weights for _, weights in family.units()]
    rows = torch.stack([_row(layout, family.generator(point, weights)) for weights in units], 1)
    # By singular values: units that move θ alike leave the amounts open, and the smallest are taken.
    amounts = torch.linalg.lstsq(rows, -layout.flatten(moved)[:, None], driver="gelsd").solution[:, 0]
    weights = torch.stack([amount * unit.double() for amount, unit in zip(amounts, units, strict=True)]).sum(0)
    return family.flow(point, weights)


def _balanced(symmetries: Symmetries, point: dict[str, Tensor]) -> dict[str, Tensor]:
    # What balances stands on a higher floor, where it is asked for by itself.
    from neuralmechanics.diagnostics.balancing.balancing import balanced

    found = balanced(symmetries, point)
    if found.unattained:
        raise ArithmeticError(
            f"{len(found.unattained)} directions have no point of least norm, first {found.unattained[0]}: one side is "
            "zero, or the sides differ too far; balance the weights or give these slices nonzero ones"
        )
    return found.params


def _unit_scale(family: Family, point: dict[str, Tensor]) -> dict[str, Tensor]:
    """θ scaled by one step of Newton's method towards charge 1, exact where all exponents are 1."""
    here = family.charge(point)
    if bool((here <= 0).any()):
        raise ArithmeticError(f"a scale charge of {family.name!r} is zero: its weights vanish and have no direction")
    # A forward difference will do: an error in the slope costs rounds and no accuracy.
    nudge = torch.full_like(here, 1e-4)
    slope = (family.charge(family.transform(point, torch.exp(nudge))) / here).log() / nudge
    # Where every exponent is 1 the slope is 2, and the step lands.
    return family.transform(point, torch.exp(-here.log() / slope))
