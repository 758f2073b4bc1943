"""Families of factors as changes: each slice of a tensor times the product of the factors' powers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.plan import Factor, Multiply, Place, Power
from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions import Action

__all__ = ["GainFactors", "kept_place", "multiplied", "origin_of", "slots"]


@dataclass(frozen=True, eq=False)
class GainFactors:
    """For each factor of a family an entry of a gain, to a power: (γ + offset)^power, or of its size."""

    gain: str
    slots: np.ndarray
    power: float
    offset: float = 0.0
    size: bool = False


def kept_place(view: SliceView, shape: tuple[int, ...]) -> Place | None:
    """Where the slices of a view stand, in their order; None for a view that keeps more than two dimensions."""
    seen = None if tuple(view.shape) == shape else tuple(view.shape)
    if len(view.kept) > 2 or not view.shape:
        return None
    if not view.kept:
        return Place(0, np.arange(view.shape[0]).reshape(1, 1, -1), shape=seen)
    last = view.kept[-1]
    size = view.shape[last]
    if len(view.kept) == 1:
        return Place(last, np.arange(size).reshape(1, size, 1), shape=seen)
    outer = view.shape[view.kept[0]]
    positions = np.tile(np.arange(size).reshape(1, size, 1), (outer, 1, 1))
    return Place(last, positions, ((view.kept[0], np.arange(outer).reshape(outer, 1)),), seen)


def origin_of(action: Action, name: str) -> float | None:
    """The number c of θ + c that the family acts on, 0 where there is none; None where it is more than one number."""
    origin = action.origin({name: torch.zeros(())}).get(name)
    if origin is None:
        return 0.0
    values = np.unique(origin.numpy())
    return float(values[0]) if len(values) == 1 else None


def slots(term: SliceTerm, charges: int) -> np.ndarray | None:
    """The entry that each charge multiplies, all entries taken; None where it is not one entry a charge, and all."""
    if math.prod(term.view.shape) != term.view.size or term.view.size != charges:
        return None
    if len(term.charges) != charges or len(set(term.charges.tolist())) != charges:
        return None
    if len(set(term.slices.tolist())) != charges:
        return None
    out = np.zeros(charges, dtype=np.int64)
    out[term.charges] = term.slices
    return out


def multiplied(
    term: SliceTerm, by: GainFactors | Float64[Tensor, " charges"], shape: tuple[int, ...], origin: float
) -> Multiply | None:
    """The change of the term's parameter under factors: positive numbers or powers of a gain; None where none fits."""
    place = kept_place(term.view, shape)
    if place is None:
        return None
    factor = _of_gain(term, by) if isinstance(by, GainFactors) else _of_numbers(term, by)
    return Multiply(term.view.parameter, place, factor, origin)


def _of_numbers(term: SliceTerm, by: Float64[Tensor, " charges"]) -> Factor:
    total = torch.zeros(term.view.size, dtype=torch.float64)
    steps = torch.as_tensor(term.coefficients, dtype=torch.float64) * by.double().log()[torch.as_tensor(term.charges)]
    return Factor(total.index_add(0, torch.as_tensor(term.slices), steps).exp())


def _of_gain(term: SliceTerm, by: GainFactors) -> Factor:
    return Factor(
        None, tuple(Power(by.gain, index, power, 1.0, by.offset, by.size) for index, power in _layers(term, by))
    )


def _layers(term: SliceTerm, by: GainFactors) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The entries of the gain for each slice: as often as slices are multiplied by more than one factor."""
    order = np.argsort(term.slices, kind="stable")
    slices, charges, coefficients = term.slices[order], term.charges[order], term.coefficients[order]
    first = np.r_[0, np.flatnonzero(np.diff(slices)) + 1]
    rank = np.arange(len(slices)) - np.repeat(first, np.diff(np.r_[first, len(slices)]))
    for layer in range(int(rank.max()) + 1):
        chosen = rank == layer
        index, power = np.full(term.view.size, -1), np.ones(term.view.size)
        index[slices[chosen]] = by.slots[charges[chosen]]
        power[slices[chosen]] = by.power * coefficients[chosen]
        yield index, power
