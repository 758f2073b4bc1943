"""How long the steps of Adam and its kin are once their gradients are noise alone: what a falling rate leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuralmechanics.laws.equilibrium import memory_gain
from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion

if TYPE_CHECKING:
    from neuralmechanics.symmetry import Symmetries

Vector = np.ndarray[Any, Any]
# Of |d|²/η² over that of noise. Above, entries whose gradients are rare make longer steps; far below, many entries have
# no gradient at all: of neither does the number of entries tell the limit.
_SHORTEST, _LONGEST = 1 / 3, 1.25


def noise_limit(symmetries: Symmetries, motion: Motion) -> Vector:
    """P(1-β)/(1+β) of every charge, P its entries: |d|²/η² of gradients without correlation, each of unit variance.

    Nan for other optimisers and where shapes are not known. Source: Kosson et al., "Rotational equilibrium" (2024).
    """
    known = motion.response == "normalised" and motion.gain is not None
    counts = []
    for family in symmetries.charged:
        shapes = family.shapes
        if not known or family.kind != "scale" or any(name not in shapes for name in family.parameters):
            counts.append(np.full(family.charges, np.nan))
            continue
        ones = {name: torch.ones(()).expand(tuple(shapes[name])) for name in family.parameters}
        counts.append(family.charge(ones).numpy())
    return np.concatenate(counts) / memory_gain(motion.hyper) if counts else np.zeros(0)


def within_reach(limit: Vector, strength: Vector) -> Vector:
    """The limit where steps are of about its length; nan elsewhere."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = strength / limit
        near: Vector = np.where((ratio > _SHORTEST) & (ratio < _LONGEST), limit, np.nan)
    return near
