"""Matrices on spaces and on rotary pairs, as changes of every tensor in which their channels stand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.plan import Change, Factor, Mix, Permute, Place, Power
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import ComplexPairs, GramTerm, Rotation, RotationTerm
from neuralmechanics.symmetry.families.actions.terms.gain import Dressing
from neuralmechanics.symmetry.families.spaces import Space

__all__ = ["dressing_factor", "mixed_space", "permuted_space", "turned_pairs"]


def mixed_space(space: Space, matrix: Tensor) -> Piece:
    """Every entry that mixes, by A or A⁻ᵀ between its gains; ``matrix``: one for all copies, or one for each."""
    dual = torch.linalg.inv(matrix).mT if any(e.mixes and e.inverse_transposed for e in space.entries) else matrix
    changes = [
        Mix(
            entry.parameter,
            Place.of(entry, space.copies_shape),
            dual if entry.inverse_transposed else matrix,
            dressing_factor(entry.dressing, space.width),
        )
        for entry in space.entries
        if entry.mixes
    ]
    return Piece(f"{space.group} of {space.width} channels: {space.name}", tuple(changes), space.requires)


def permuted_space(space: Space, permutation: np.ndarray) -> Piece:
    """Every entry in another order; ``permutation``: one for all copies, or one for each."""
    changes = [Permute(e.parameter, Place.of(e, space.copies_shape), permutation) for e in space.entries]
    return Piece(f"permutation of {space.width} channels: {space.name}", tuple(changes), space.requires)


def turned_pairs(family: Family, angles: Sequence[float]) -> Piece | None:
    """Rotary pairs of a family turned, each by its angle; None for a family of another form."""
    turns = torch.as_tensor(angles, dtype=torch.float64)
    cosines, sines = turns.cos(), turns.sin()
    blocks = torch.stack([torch.stack([cosines, -sines], -1), torch.stack([sines, cosines], -1)], -2)
    action = family.action
    changes: list[Change] = []
    if isinstance(action, ComplexPairs):
        for term in action.terms:
            place = _gram_place(term)
            if place is None:
                return None
            changes.append(Mix(term.view.parameter, place, blocks[torch.as_tensor(term.blocks)]))
    elif isinstance(action, Rotation) and action.pairs:
        matrix = torch.eye(action.width, dtype=torch.float64).repeat(math.prod(action.copies), 1, 1)
        for each, angled in zip(matrix, blocks.reshape(-1, len(action.pairs), 2, 2), strict=True):
            for (i, j), block in zip(action.pairs, angled, strict=True):
                each[[[i], [j]], [[i, j]]] = block
        for leg in action.terms:
            place = _rotated_place(leg, action)
            factor = dressing_factor(leg.dressing, action.width)
            changes.append(Mix(leg.parameter, place, matrix if action.copies else matrix[0], factor))
    return Piece(family.name, tuple(changes), family.requires) if changes else None


def _rotated_place(term: RotationTerm, action: Rotation) -> Place:
    """Where the channels of each copy stand in a parameter."""
    if term.place is None:
        return Place.whole(term.dim, action.width)
    each = list(itertools.product(*map(range, action.copies)))
    beside = ((p.axis, np.stack([p.positions(copy).reshape(-1) for copy in each])) for p in term.beside)
    return Place(term.dim, np.stack([term.place.positions(copy) for copy in each]), tuple(beside))


def dressing_factor(dressing: Dressing, width: int) -> Factor | None:
    """The product of a dressing's gains, to be read when it is needed; a row for each copy where they differ."""
    if not dressing:
        return None
    powers = []
    for g, power in dressing:
        places = g.places(g.start + width).reshape(-1, width) if g.copies else g.start + np.arange(width)
        sizes = not float(power).is_integer()
        powers.append(Power(g.parameter, places, np.full(places.shape, power), g.factor, g.offset, sizes))
    return Factor(None, tuple(powers))


def _gram_place(term: GramTerm) -> Place | None:
    """The channels of each block of a linear family's term."""
    kept, shape = term.view.kept, tuple(term.view.shape)
    if len(kept) == 1:
        return Place(kept[0], term.slices[:, :, None], shape=shape)
    if len(kept) != 2:
        return None
    outer, inner = np.unravel_index(term.slices, [shape[d] for d in kept])
    if (outer == outer[:, :1]).all():
        return Place(kept[1], inner[:, :, None], ((kept[0], outer[:, :1]),), shape)
    if (inner == inner[:, :1]).all():
        return Place(kept[0], outer[:, :, None], ((kept[1], inner[:, :1]),), shape)
    return None
