"""A network at the point of its orbit that is unique up to permutations, signs and rotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from neuralmechanics.diagnostics.balancing.balancing import balanced
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, Step
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit
from neuralmechanics.rewrite.comparing.solving.gauge import centred, rescaled
from neuralmechanics.rewrite.comparing.solving.levelling import levelled
from neuralmechanics.rewrite.comparing.solving.matching import matched
from neuralmechanics.symmetry import Family

__all__ = ["Reduced", "left_open", "reduced"]

_FOUND = 1e-7  # how well the balancing must be recovered as an element


@dataclass(frozen=True)
class Reduced:
    """The tensors there, and the element that led there."""

    params: dict[str, Tensor]
    element: Element


def reduced(network: Network, params: Mapping[str, Tensor]) -> Reduced:
    """Without what shifts add, gains folded, free scales one, biases that norms forget level, the rest of least norm.

    Σ θ² has on every closed orbit one minimum up to isometries (Kempf & Ness 1979): scales and general linear groups
    are fixed by it, each by the geometric mean of its two sides; of the group there remain permutations, signs, phases
    and rotations, which do not change lengths.
    """
    out, steps = _gauged(network, dict(params))
    fixed = {step.family.name for step in steps if isinstance(step, FamilyStep)}
    families = [f for f in network.families if f.kind in ("rescale", "linear") and f.name not in fixed]
    element = Element(tuple(steps))
    if families:
        least = balanced(families, out).params
        found = matched(network, least, out)
        if found.off <= _FOUND:
            out, element = found.element.transform(out), found.element.compose(element)
    return Reduced(out, element)


def _gauged(network: Network, out: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Step]]:
    out, shifts = centred(network.shifts, out, (), network.origins(out))
    steps: list[Step] = list(shifts)
    for family in network.scalings:
        amount = rescaled(family, out, network.readable(family, ()), network.gains)
        if amount is not None:
            step = FamilyStep(family, amount)
            out = step.transform(out)
            steps.append(step)
    out, levels = _levelled(network, out)
    if levels:  # what shifts add is read off the maps that the levelling has changed
        out, shifts = centred(network.shifts, out, (), network.origins(out))
        steps += [*levels, *shifts]
    gains = network.gains - set(network.origins(out))
    for unit in (u for u in network.units if isinstance(u, SpaceUnit)):
        for sign in unit.positive(out, gains):
            out = sign.transform(out)
            steps.append(sign)
    return out, steps


def _levelled(network: Network, out: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Step]]:
    steps: list[Step] = []
    for family in network.families:
        matrix = levelled(network, family, out)
        if matrix is not None:
            step = FamilyStep(family, matrix)
            out = step.transform(out)
            steps.append(step)
    return out, steps


def left_open(network: Network) -> Family | None:
    """A family that no rule here fixes: mixings through gains and what centring norms do not see."""
    for unit in network.units:
        family = getattr(unit, "family", None)
        if family is not None and not family.charges and not family.action.compact:
            return unit.family  # type: ignore[attr-defined, no-any-return]
    return None
