"""Scales and rescales whose factors may be negative: where flipping the same channels is an element of a space."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neuralmechanics.symmetry.domains.channels.factors import Exponent, independent
from neuralmechanics.symmetry.families.actions import Action
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.spaces import Space

__all__ = ["with_negative_factors"]

Places = dict[tuple[str, int], list[tuple[int, int, np.ndarray]]]  # (space, entry, the channel of each slice or -1)


def with_negative_factors(families: Sequence[Family], spaces: Sequence[Space]) -> list[Family]:
    """The families, those of whole channels with signs marked as such.

    A factor a < 0 flips the signs of what it multiplies by an odd power: this must be a sign of a space's directions,
    or a diagonal matrix of its group.
    """
    places = _places(spaces)
    signs = [_signs(space) for space in spaces]
    out = []
    for family in families:
        action = family.action
        with_signs = action.with_signs()
        if with_signs is not None and _flips(action, places, signs):
            family = replace(family, action=with_signs)
        out.append(family)
    return out


def _places(spaces: Sequence[Space]) -> Places:
    out: Places = {}
    for number, space in enumerate(spaces):
        for k, entry in enumerate(space.entries):
            if entry.buffer or entry.beside:
                continue
            channels = np.full(entry.shape[entry.axis], -1, dtype=np.int64)
            for j, copy in enumerate(itertools.product(*(range(n) for n in space.copies_shape))):
                rows = entry.place.positions(copy)
                channels[rows] = (j * space.width + np.arange(space.width))[:, None]
            out.setdefault((entry.parameter, entry.axis), []).append((number, k, channels))
    return out


def _signs(space: Space) -> list[Exponent]:
    """A spanning set of the signs of one channel, entry by entry."""
    out: list[Exponent] = [
        {k: 1 for k, power in enumerate(d.exponents) if power} for d in space.directions if d.kind == "sign"
    ]
    if space.group in ("orthogonal", "general linear"):
        out.append({k: 1 for k, entry in enumerate(space.entries) if entry.mixes})
    return out


def _flips(action: Action, places: Places, signs: Sequence[Sequence[Exponent]]) -> bool:
    """Whether every factor of the action flips whole channels of one space, in a way that its signs do."""
    channel: np.ndarray | None = None
    pattern: Exponent = {}
    spaces: set[int] = set()
    for term in action.factor_terms:
        # To an even power a negative factor turns no sign.
        odd = term.coefficients % 2 == 1
        if not odd.any():
            continue
        found = places.get((term.view.parameter, term.view.kept[0]), []) if len(term.view.kept) == 1 else []
        met = [(n, k, ids) for n, k, ids in found if (ids[term.slices[odd]] >= 0).all()]
        # In several spaces, or in none as a whole, there is no one sign that the factor could be.
        if len(met) != 1:
            return False
        number, entry, ids = met[0]
        own = _one_channel_each(term.charges[odd], ids[term.slices[odd]], action.charges, ids)
        if own is None or (channel is not None and (own != channel).any()):
            return False
        channel = own
        spaces.add(number)
        pattern[entry] = 1
    # Even powers alone: a negative factor does what a positive one does.
    if channel is None:
        return True
    return len(spaces) == 1 and not independent(pattern, signs[spaces.pop()], 2)


def _one_channel_each(charges: np.ndarray, channels: np.ndarray, count: int, all_of: np.ndarray) -> np.ndarray | None:
    """The channel that each charge multiplies, the whole of it; None where one multiplies another number, or a part."""
    own = np.full(count, -1, dtype=np.int64)
    own[charges] = channels
    if (own < 0).any() or (own[charges] != channels).any():
        return None
    sizes = np.bincount(all_of[all_of >= 0], minlength=int(own.max()) + 1)
    return own if (np.bincount(charges, minlength=count) == sizes[own]).all() else None
