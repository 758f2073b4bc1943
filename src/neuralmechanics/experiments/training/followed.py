"""Fewer charges of a large network: of each family some, evenly spread, and the sum of all as a charge of its own.

A sum of charges is a charge: where every filter of a layer may be scaled, so may all of them by one factor. So the
monitor follows it as any other, and every law holds of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from neuralmechanics.experiments.config import SUM
from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.actions import Diagonal, Shift


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
    if not isinstance(action, Diagonal | Shift) or family.charges <= most + 1:
        yield family
        return
    chosen = np.unique(np.linspace(0, family.charges - 1, most).round().astype(int))
    places = np.full(family.charges, -1)
    places[chosen] = np.arange(len(chosen))
    terms = [kept for term in action.terms if len((kept := _renumbered(term, places)).charges)]
    labels = tuple(family.labels[int(k)] for k in chosen)
    yield replace(family, action=replace(action, terms=tuple(terms)), labels=labels)
    if all(int(moved.max()) <= 1 for moved in action.elements_moved().values()):
        # A bias before a norm: each moves one element, whose gradient is zero; there is nothing to tell of their sum.
        return
    whole = tuple(_renumbered(term, np.zeros(family.charges, dtype=int)) for term in action.terms)
    name = f"sum of all {family.charges} charges of {family.name}"
    yield replace(family, action=replace(action, terms=whole), name=family.name + SUM, labels=(name,))


def _renumbered(term: SliceTerm, places: np.ndarray) -> SliceTerm:
    """The term with its charges at their new places; those at a negative place are left out."""
    new = places[term.charges]
    kept = new >= 0
    charges, slices, coefficients = new[kept], term.slices[kept], term.coefficients[kept]
    # A slice that several charges read is read once, by the sum of their coefficients.
    pairs, inverse = np.unique(np.stack([charges, slices]), axis=1, return_inverse=True)
    total = np.zeros(pairs.shape[1])
    np.add.at(total, inverse.reshape(-1), coefficients)
    return SliceTerm(term.view, pairs[0], pairs[1], total)
