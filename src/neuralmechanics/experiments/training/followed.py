"""Fewer charges of a large network: of each family some, evenly spread, and the sum of all as a charge of its own.

A sum of charges is a charge: where every filter of a layer may be scaled, so may all of them by one factor. So the
monitor follows it as any other, and every law holds of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from neuralmechanics.experiments.config import SUM
from neuralmechanics.symmetry import Family, Symmetries


def some_of_each(symmetries: Symmetries, most: int | None) -> Symmetries:
    """The symmetries with at most `most` charges of each family, and its sum; all of them where `most` is None.

    Which ones depends on their number alone, so that a resumed training follows the same. Families whose generators
    mix channels are left as they are: no part of them is closed.
    """
    if most is None:
        return symmetries
    families = [part for family in symmetries.families for part in _parts(family, most)]
    return replace(symmetries, families=tuple(families))


def _parts(family: Family, most: int) -> Iterator[Family]:
    action = family.action
    if family.charges <= most + 1:
        yield family
        return
    chosen = np.unique(np.linspace(0, family.charges - 1, most).round().astype(int))
    places = np.full(family.charges, -1)
    places[chosen] = np.arange(len(chosen))
    kept, whole = action.renumbered(places), action.renumbered(np.zeros(family.charges, dtype=int))
    if kept is None or whole is None:
        yield family
        return
    labels = tuple(family.labels[int(k)] for k in chosen)
    yield replace(family, action=kept, labels=labels)
    if all(int(moved.max()) <= 1 for moved in action.elements_moved().values()):
        # A bias before a norm: each moves one element, whose gradient is zero; there is nothing to tell of their sum.
        return
    name = f"sum of all {family.charges} charges of {family.name}"
    yield replace(family, action=whole, name=family.name + SUM, labels=(name,))
