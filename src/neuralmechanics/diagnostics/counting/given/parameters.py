"""What tells the model's own parameters from a generic place: fewer directions seen, zeros, and equal slices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neuralmechanics.diagnostics.counting.generic_point import Place
from neuralmechanics.diagnostics.counting.potentials import Potentials

__all__ = ["differences"]

_NAMED = 4  # slices that are listed by number


def differences(potentials: Potentials, own: Place, generic: Place) -> tuple[str, ...]:
    """Sentences on the fibre at the model's own parameters, against that at a generic place, and on their structure."""
    size = potentials.dimension
    here, there = size - own.rank, size - generic.rank
    if here == there:
        return (f"the model's own parameters are as good as generic ones: fibre {here} at both",)
    more = f"{here - there} more directions" if here > there else f"{there - here} fewer directions"
    first = f"the functions miss {more} at the model's own parameters than at generic ones: fibre {here}, not {there}"
    return (first, *_structure(potentials))


def _structure(potentials: Potentials) -> Iterator[str]:
    """Zeros and equal slices, by parameter."""
    for name, value in potentials.unflatten(potentials.origin).items():
        zeros = int((value == 0).sum())
        if zeros:
            yield f"{name}: {zeros} of {value.numel()} elements are zero"
        for dim in range(value.ndim):
            groups = list(_equal_slices(value.movedim(dim, 0)))
            if value.ndim > 1 and groups:
                listed = "; ".join(" = ".join(map(str, group)) for group in groups[:_NAMED])
                yield f"{name}: slices along dimension {dim} are equal: {listed}{'; …' if len(groups) > _NAMED else ''}"


def _equal_slices(value: Tensor) -> Iterator[list[int]]:
    """Numbers of equal slices that are not zero."""
    _, kinds = torch.unique(value.reshape(len(value), -1), dim=0, return_inverse=True)
    for kind in range(int(kinds.max()) + 1 if len(kinds) else 0):
        members = (kinds == kind).nonzero().flatten().tolist()
        if len(members) > 1 and bool((value[members[0]] != 0).any()):
            yield members
