"""A gauge fixed by rules that the rest of the group respects: shifts projected out, gains and free scales made one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep
from neuralmechanics.rewrite.comparing.parts.family_units import conjugate_gradients, solved_through
from neuralmechanics.rewrite.comparing.solving.krylov import minimal_residual
from neuralmechanics.rewrite.comparing.solving.ordering import in_order
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Shift

__all__ = ["answering_blindly", "centred", "is_readable", "rescaled"]

_ROUNDS = 100
_STILL = 1e-14


def centred(
    families: Sequence[Family],
    params: Mapping[str, Tensor],
    hidden: Collection[str] = (),
    origins: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[dict[str, Tensor], list[FamilyStep]]:
    """The parameters without what shifts add, with the steps that took it away.

    Nothing of a translation is left in all that it moves, of an affine shift in the biases that it starts from, of a
    shear in its weight. What a family moves is read before what depends on it; families that depend on one another
    are solved for together, in rounds until nothing moves, since the maps between them may move as well. Tensors that
    are ``hidden`` are not read; of gains that are stored as 1 + w, of which ``origins`` hold the 1, it is the sum that
    is projected.
    """
    out, steps = dict(params), []
    readable = [family for family in families if is_readable(family, hidden)]
    reads = {f.name: {*f.action.inputs, *_reading(f, params).parameters} for f in readable}
    groups = in_order(readable, lambda first, then: not reads[then.name].isdisjoint(first.parameters))
    for _ in range(_ROUNDS):
        moved = 0.0
        for group in groups:
            for family, amount in zip(group, _amounts(group, out, origins, hidden), strict=True):
                size = max((float(out[n].abs().max()) for n in family.parameters if out[n].numel()), default=0.0)
                size = max(
                    size, *(float(params[n].abs().max()) for n in family.parameters if params[n].numel()), 1e-300
                )
                if float(amount.abs().max()) <= _STILL * size:
                    continue
                moved = max(moved, _greatest(amount) / size)
                step = FamilyStep(family, amount)
                out = step.transform(out)
                steps.append(step)
        if moved <= 10 * _STILL:
            break
    for name in {n for step in steps for n in step.parameters}:  # what is left of zeros is rounding
        out[name] = torch.where(out[name].abs() <= 100 * _STILL * _greatest(params[name]), 0.0, out[name])
    return out, steps


def _greatest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _about(params: Mapping[str, Tensor], origins: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {**params, **{name: params[name] + c for name, c in origins.items() if name in params}}


def is_readable(family: Family, hidden: Collection[str]) -> bool:
    """Whether what a shift adds can be read off without the hidden tensors; translations always, from the others.

    A direction that is solved for is none that the rest of the group respects: its shears are no part of the gauge.
    """
    return family.action.additive and not set(family.action.anchors) & set(hidden) and not solved_through(family)


def answering_blindly(families: Sequence[Family], hidden: Collection[str]) -> frozenset[str]:
    """Tensors to which shifts add what hidden tensors say: maps that a shift passes, and what is so answered itself."""
    unseen = set(hidden)
    while True:
        more = {
            name
            for family in families
            if family.action.anchors and not unseen.isdisjoint((*family.action.inputs, *family.action.anchors))
            for name in set(family.parameters) - set(family.action.anchors)
        }
        if more <= unseen:
            return frozenset(unseen - set(hidden))
        unseen |= more


def _amounts(
    families: Sequence[Family], params: Mapping[str, Tensor], origins: Mapping[str, Tensor], hidden: Collection[str]
) -> list[Tensor]:
    """The shifts after which nothing is left along the families."""
    if all(not f.action.anchors for f in families):
        return _projected([_reading(f, params) for f in families], _about(params, origins), hidden)
    if len(families) == 1:
        return _projected([_reading(families[0], params)], _seen(families[0], params, _about(params, origins)), hidden)
    return _solved(families, params, origins, hidden)


def _reading(family: Family, params: Mapping[str, Tensor]) -> Shift:
    """The shift by whose sums a family is read."""
    return Shift(family.action.footing(params)[0])


def _seen(family: Family, params: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The values as the sums read them, in place of those tensors among the parameters that the family is read off."""
    names = _reading(family, params).parameters
    return family.action.footing({**params, **{name: values[name] for name in names}})[1]


def _solved(
    families: Sequence[Family], params: Mapping[str, Tensor], origins: Mapping[str, Tensor], hidden: Collection[str]
) -> list[Tensor]:
    """u with C (θ + G u) = 0 for all families at once: C the sums by which they are read, G their generators."""
    readings = [_reading(family, params) for family in families]
    sizes = [reading.charges for reading in readings]
    names = {name for reading in readings for name in reading.parameters}
    blank = {name: torch.zeros_like(params[name]) for name in names}

    def sums(values: Mapping[str, Tensor]) -> Tensor:
        shown = {name: blank[name] if name in hidden else values.get(name, blank[name]) for name in names}
        seen = (_seen(family, params, shown) for family in families)
        return torch.cat([r.pair(values, values) for r, values in zip(readings, seen, strict=True)])

    def applied(u: Tensor) -> Tensor:
        moved: dict[str, Tensor] = {}
        for family, part in zip(families, torch.split(u, sizes), strict=True):
            for name, step in family.action.generator(params, part).items():
                if name in names:
                    moved[name] = moved[name] + step if name in moved else step
        return sums(moved)

    values = _about(params, origins)
    left = sums(values)
    if _greatest(left) <= 10 * _STILL * max(_greatest(values[name]) for name in names):
        return list(torch.split(torch.zeros_like(left), sizes))
    return list(torch.split(minimal_residual(applied, -left), sizes))


def _projected(shifts: Sequence[Shift], params: Mapping[str, Tensor], hidden: Collection[str]) -> list[Tensor]:
    """-u with S Sᵀ u = S θ over all shifts S together, without the columns of hidden tensors."""
    names = {name for shift in shifts for name in shift.parameters}
    seen = {name: torch.zeros_like(params[name]) if name in hidden else params[name] for name in names}
    sizes = [shift.charges for shift in shifts]

    def sums(values: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([shift.pair(values, values) for shift in shifts])

    def normal(u: Tensor) -> Tensor:
        total = {name: torch.zeros_like(value) for name, value in seen.items()}
        for shift, part in zip(shifts, torch.split(u, sizes), strict=True):
            for name, step in shift.generator(seen, part).items():
                total[name] = total[name] if name in hidden else total[name] + step
        return sums(total)

    return list(torch.split(-conjugate_gradients(normal, sums(seen)), sizes))


def rescaled(
    family: Family, params: Mapping[str, Tensor], readable: Collection[str], preferred: Collection[str] = ()
) -> Tensor | None:
    """Factors that give each channel's slices in one tensor unit length, of a gain its sign too; None without such one.

    The tensor is one of ``readable``, of the ``preferred`` ones where there is one (gains).
    """
    action = family.action
    point, terms = action.point(params), action.factor_terms
    candidates = [t for t in terms if t.view.parameter in readable]
    candidates.sort(key=lambda t: t.view.parameter not in preferred)
    for term in candidates:
        charges = torch.as_tensor(term.charges)
        same = [t for t in terms if t.view.parameter == term.view.parameter]
        if (
            len(same) > 1
            or len(set(term.charges.tolist())) != action.charges
            or (term.coefficients != term.coefficients[0]).any()
        ):
            continue
        power = float(term.coefficients[0])
        value = point[term.view.parameter].reshape(term.view.shape)
        squares = (value.square().sum(dim=term.view.summed) if term.view.summed else value.square()).reshape(-1)
        index = torch.as_tensor(term.slices)
        energy = torch.zeros(action.charges, dtype=torch.float64).index_add_(0, charges, squares[index])
        factors = torch.where(energy > 0, energy.clamp(min=1e-300) ** (-0.5 / power), 1.0)
        if action.signed and not term.view.summed and len(charges) == action.charges and power % 2 == 1:
            signs = torch.zeros(action.charges, dtype=torch.float64).index_add_(0, charges, value.reshape(-1)[index])
            factors = torch.where(signs < 0, -factors, factors)
        return factors
    return None
