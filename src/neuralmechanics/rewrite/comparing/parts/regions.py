"""Where a group acts on tensors, as products of index sets: what tells which groups touch the same entries."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry import Family, Space
from neuralmechanics.symmetry.families.spaces import Entry

__all__ = ["Region", "copies_of", "family_regions", "region_of_entry"]


_MANY = 1 << 22  # slices beyond which a family is taken to act on whole tensors


@dataclass(frozen=True, eq=False)
class Region:
    """The entries of a tensor whose index lies in a set along each of ``masks``' axes; all along the others."""

    tensor: str
    masks: Mapping[int, np.ndarray] = field(default_factory=dict)

    def meets(self, other: Region) -> bool:
        """Whether the two have entries in common."""
        if self.tensor != other.tensor:
            return False
        shared = self.masks.keys() & other.masks.keys()
        return all(bool((self.masks[axis] & other.masks[axis]).any()) for axis in shared)


def region_of_entry(space: Space, entry: Entry) -> Region:
    """All entries of a tensor that one entry of a space moves, over all its copies.

    Channels that move as a whole are told from others along their own axis alone.
    """
    masks: dict[int, np.ndarray] = {}
    for place in (entry.place, *entry.beside):
        mask = np.zeros(entry.shape[place.axis], dtype=bool)
        for copy in copies_of(space):
            mask[place.positions(copy)] = True
        masks[place.axis] = mask
    return Region(entry.parameter, masks)


def family_regions(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Region, ...]:
    """Where a family acts: by slices along one axis where it has such, else whole tensors."""
    action = family.action
    if action.moved_slices:
        return tuple(_sliced(view, slices, shapes) for view, slices in action.moved_slices)
    return tuple(Region(name) for name in action.parameters)


def _sliced(view: SliceView, slices: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> Region:
    """By masks along the tensor's own axes where the slices are a product of such, else the whole tensor."""
    shape = shapes.get(view.parameter)
    if shape is None or view.size > _MANY:
        return Region(view.parameter)
    chosen = np.zeros(view.size, dtype=bool)
    chosen[slices] = True
    spread = chosen.reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])
    inside = np.broadcast_to(spread, view.shape).reshape(shape)
    masks: dict[int, np.ndarray] = {}
    for axis in range(len(shape)):
        others = tuple(d for d in range(len(shape)) if d != axis)
        masks[axis] = np.asarray(inside.any(axis=others))
    if inside.sum() != np.prod([mask.sum() for mask in masks.values()]):
        return Region(view.parameter)
    return Region(view.parameter, {axis: mask for axis, mask in masks.items() if not mask.all()})


def copies_of(space: Space) -> Iterable[tuple[int, ...]]:
    """The numbers of the copies of a space, all combinations; one empty combination where it has none."""
    return itertools.product(*(range(n) for n in space.copies_shape))
