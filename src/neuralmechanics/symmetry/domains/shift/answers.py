"""Biases that answer shifts: what a linear map makes of a constant is a constant that a later bias takes back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralmechanics.symmetry.domains.shift.products import Gained, Mapped
from neuralmechanics.symmetry.domains.shift.variation import ChangeTerm
from neuralmechanics.symmetry.program.attributes.views import Permute, Take

__all__ = ["Absorbed", "Answer", "mapped_constant", "maps_of", "parameter_behind", "rows_alike"]


@dataclass(frozen=True, eq=False)
class Absorbed:
    """A change that the bias ``absorber`` answers: -factor·Σ_k u[ids[k]]·(column k of the linear map).

    The map is the product of those of ``steps``, the first one first: sums of products, and gains. ``rows``: the
    entries of the bias that answer; none for all.
    """

    absorber: str
    steps: tuple[Mapped | Gained, ...]
    ids: np.ndarray
    factor: float
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Images W a that a bias read in several places may take on: the step of the linear map W, and how many a has.

    ``axis``: which axis of the step's functions the outputs of W lie along. ``rows``: the entries of the bias that do
    so, where these are read apart from the others; none for all.
    """

    bias: str
    step: Mapped
    axis: int
    count: int
    rows: tuple[int, ...] = ()


def mapped_constant(t: ChangeTerm) -> Mapped | None:
    """The linear map that made the term, or some of its entries, of a constant; None where anything else was done."""
    start, *steps = t.key
    mapped = steps[0] if steps and start == "constant" else None
    taken = all(isinstance(step, tuple) and step[0] == "take" for step in steps[1:])
    return mapped if isinstance(mapped, Mapped) and taken else None


def parameter_behind(name: Hashable, shapes: Mapping[str, Sequence[int]]) -> tuple[str, bool]:
    """The parameter that a value is, up to reshapes, broadcasts and entries that are taken; and whether it is whole.

    A permutation of dimensions leaves the entries of a vector in their order, and of nothing else.
    """
    whole, permuted = True, False
    while isinstance(name, tuple) and name and name[0] in ("view", "expand"):
        permuted = permuted or (name[0] == "view" and isinstance(name[2], Permute))
        whole = whole and not (name[0] == "view" and isinstance(name[2], Take))
        name = name[1]
    if not (isinstance(name, tuple) and name[:1] == ("parameter",)):
        return "", False
    parameter = str(name[1])
    several = sum(n > 1 for n in shapes[parameter]) > 1
    return ("", False) if permuted and several else (parameter, whole)


def rows_alike(t: ChangeTerm, name: Hashable) -> tuple[int, ...]:
    """The rows that were taken of a mapped constant and of the vector that is added to it, if they are the same."""
    while isinstance(name, tuple) and name[0] in ("expand", "view") and not isinstance(name[2], Take):
        name = name[1]
    if not (isinstance(name, tuple) and name[0] == "view" and isinstance(take := name[2], Take)):
        return ()
    whole = isinstance(name[1], tuple) and name[1][:1] == ("parameter",) and len(t.key) == 3
    return take.positions if whole and t.key[2] == ("take", t.along[0][1], take.positions) else ()


def maps_of(t: ChangeTerm) -> tuple[Mapped | Gained, ...]:
    """The linear maps that a constant has passed, if nothing else has been done to it; several are all parameters.

    What groups make is joined again: two dimensions along which the functions vary are numbered row by row.
    """
    steps: list[Mapped | Gained] = []
    for step in t.key[1:]:
        if isinstance(step, (Mapped, Gained)):
            steps.append(step)
        elif not (steps and isinstance(step, tuple) and (_joins(step) or _keeps_order(step))):
            return ()
    several = len(steps) > 1 and not all(_of_parameter(step.other) for step in steps)
    of_maps = t.key[0] == "constant" and any(isinstance(step, Mapped) for step in steps)
    return tuple(steps) if of_maps and not several else ()


def _joins(step: Sequence[Any]) -> bool:
    """Whether a reshape joins two neighbouring dimensions and leaves all others."""
    if step[0] != "reshape":
        return False
    _, shape, out, pattern = step
    joined = [(*shape[:d], shape[d] * shape[d + 1], *shape[d + 2 :]) for d in range(len(shape) - 1)]
    return not pattern and tuple(out) in joined


def _keeps_order(step: Sequence[Any]) -> bool:
    """Whether functions lie along other dimensions, in the order of their axes."""
    if step[0] != "along":
        return False
    axes = [axis for _, axis in sorted(step[1])]
    return axes == sorted(axes)


def _of_parameter(name: Hashable) -> bool:
    """Whether a value is a parameter, rearranged, or a multiple of one."""
    while isinstance(name, tuple) and name and name[0] in ("view", "expand", "scaled"):
        name = name[1]
    return isinstance(name, tuple) and name[:1] == ("parameter",)
