"""Biases that answer shifts: what a linear map makes of a constant is a constant that a later bias takes back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from neuralmechanics.symmetry.domains.shift.variation import ChangeTerm, Mapped
from neuralmechanics.symmetry.program.views import Permute, Take

__all__ = ["Absorbed", "Answer", "mapped_constant", "parameter_behind"]


@dataclass(frozen=True, eq=False)
class Absorbed:
    """A change that the bias ``absorber`` answers: -factor·Σ_k u[ids[k]]·(column k of the linear map)."""

    absorber: str
    step: Mapped
    ids: np.ndarray
    factor: float


@dataclass(frozen=True)
class Answer:
    """Images W a that a bias read in several places may take on: the step of the linear map W, and how many a has.

    ``axis``: which axis of the step's functions the outputs of W lie along.
    """

    bias: str
    step: Mapped
    axis: int
    count: int


def mapped_constant(t: ChangeTerm) -> Mapped | None:
    """The linear map that made the term, or some of its entries, of a constant; None where anything else was done."""
    start, *steps = t.key
    mapped = steps[0] if steps and start == "constant" else None
    taken = all(isinstance(step, tuple) and step[0] == "take" for step in steps[1:])
    return mapped if isinstance(mapped, Mapped) and taken else None


def parameter_behind(name: Hashable) -> tuple[str, bool]:
    """The parameter that a value is, up to reshapes, broadcasts and entries that are taken; and whether it is whole."""
    whole = True
    while isinstance(name, tuple) and name and name[0] in ("view", "expand"):
        if name[0] == "view" and isinstance(name[2], Permute):
            return "", False
        whole = whole and not (name[0] == "view" and isinstance(name[2], Take))
        name = name[1]
    return (str(name[1]), whole) if isinstance(name, tuple) and name[:1] == ("parameter",) else ("", False)
