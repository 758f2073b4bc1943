"""Which entries of which tensors a family multiplies, channel by channel, along one dimension of each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions.action import Action

__all__ = ["Stretch", "along_axis", "stretches"]

_Coordinates = tuple[SliceView, np.ndarray, np.ndarray, np.ndarray]  # view, charges, slices, exponents


@dataclass(frozen=True, eq=False)
class Stretch:
    """A parameter in which channel c takes the factor a_c^exponent, at ``positions[c]`` along dimension ``axis``."""

    parameter: str
    axis: int
    exponent: float
    positions: np.ndarray


def stretches(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[Stretch, ...]]:
    """The channels of a diagonal family, or the diagonal ones of linear blocks, by what moves together.

    Channels that move the same tensors by the same powers are one set; each is yielded with all that it moves. Sets
    that move anything by other than whole slices along one dimension are left out: no layer's channels are such.
    """
    parts: list[tuple[str, int, float, dict[int, list[int]]]] = []
    unknown: set[int] = set()
    for view, charges, slices, exponents in _coordinates(family.action):
        found = along_axis(view, shapes[view.parameter])
        if found is None:
            unknown.update(charges.tolist())
            continue
        axis, positions = found
        for exponent in np.unique(exponents).tolist():
            chosen = exponents == exponent
            held: dict[int, list[int]] = defaultdict(list)
            for charge, number in zip(charges[chosen].tolist(), slices[chosen].tolist(), strict=True):
                held[charge].extend(positions[number].tolist())
            parts.append((view.parameter, axis, exponent, held))
    alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for charge in sorted({c for *_, held in parts for c in held} - unknown):
        key = tuple((number, len(held[charge])) for number, (*_, held) in enumerate(parts) if charge in held)
        alike[key].append(charge)
    for key, members in alike.items():
        yield tuple(_stretch(parts[number], members) for number, _ in key)


def _stretch(part: tuple[str, int, float, dict[int, list[int]]], members: Sequence[int]) -> Stretch:
    parameter, axis, exponent, held = part
    return Stretch(parameter, axis, exponent, np.array([held[charge] for charge in members], dtype=np.int64))


def _coordinates(action: Action) -> Iterator[_Coordinates]:
    """Exponents of factors as coordinates; of linear blocks, the exponents of their diagonal matrices."""
    for term in action.channel_factors if action.factor_terms or action.matrix_group else ():
        yield term.view, term.charges, term.slices, term.coefficients


def along_axis(view: SliceView, shape: tuple[int, ...]) -> tuple[int, np.ndarray] | None:
    """The dimension of a tensor of that ``shape`` along which the slices of a view differ, and where each stands.

    None where they differ along more than one. Input channels of a linear layer behind a flatten of two pixels:

    >>> axis, positions = along_axis(SliceView("w", (5, 3, 2), (1,)), (5, 6))
    >>> axis, positions.tolist()
    (1, [[0, 1], [2, 3], [4, 5]])
    """
    parts = _split(view.shape, shape)
    if parts is None:
        return None
    holders = [axis for axis, dims in enumerate(parts) if any(d in view.kept for d in dims)]
    if len(holders) != 1:
        return None
    dims = parts[holders[0]]
    grid = np.arange(shape[holders[0]]).reshape([view.shape[d] for d in dims])
    order = [k for k, d in enumerate(dims) if d in view.kept] + [k for k, d in enumerate(dims) if d not in view.kept]
    return holders[0], grid.transpose(order).reshape(view.size, -1)


def _split(view: tuple[int, ...], shape: tuple[int, ...]) -> list[list[int]] | None:
    """The dimensions of a view that make up each dimension of the tensor; None where one lies across two of them."""
    if view == shape:
        return [[d] for d in range(len(shape))]
    parts: list[list[int]] = []
    at = 0
    for size in shape:
        dims: list[int] = []
        while math.prod(view[d] for d in dims) < size and at < len(view):
            dims.append(at)
            at += 1
        if math.prod(view[d] for d in dims) != size:
            return None
        parts.append(dims)
    if parts:
        parts[-1].extend(range(at, len(view)))  # what is left has size one
    return parts if math.prod(view) == math.prod(shape) else None
