"""Coefficients on slices, as several actions hold them: how many rows there are, what they touch, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView

__all__ = ["elements_moved", "integers", "renumbered", "rows", "slice_terms_from", "slice_terms_to", "view_from"]


def rows(terms: Iterable[SliceTerm]) -> int:
    """Number of rows of the matrix that the terms make up; none of them is empty."""
    return max((int(term.charges.max()) + 1 for term in terms if len(term.charges)), default=0)


def elements_moved(terms: Sequence[SliceTerm], charges: int) -> dict[str, np.ndarray]:
    """How many elements of each parameter every row touches."""
    out: dict[str, np.ndarray] = {}
    for term in terms:
        counts = out.setdefault(term.view.parameter, np.zeros(charges, dtype=np.int64))
        np.add.at(counts, term.charges, int(np.prod(term.view.shape, dtype=np.int64)) // term.view.size)
    return out


def renumbered(terms: Iterable[SliceTerm], places: np.ndarray) -> tuple[SliceTerm, ...]:
    """The rows at their new places, those of one place added up; rows at a negative place are left out."""
    moved = (_renumbered(term, places) for term in terms)
    return tuple(term for term in moved if len(term.charges))


def _renumbered(term: SliceTerm, places: np.ndarray) -> SliceTerm:
    new = places[term.charges]
    kept = new >= 0
    charges, slices, coefficients = new[kept], term.slices[kept], term.coefficients[kept]
    # A slice that several rows read is read once, by the sum of their coefficients.
    pairs, inverse = np.unique(np.stack([charges, slices]), axis=1, return_inverse=True)
    total = np.zeros(pairs.shape[1])
    np.add.at(total, inverse.reshape(-1), coefficients)
    return SliceTerm(term.view, pairs[0], pairs[1], total)


def slice_terms_to(terms: Iterable[SliceTerm]) -> list[dict[str, Any]]:
    """Plain data (JSON); ``slice_terms_from`` is its inverse."""
    fields = ("charges", "slices", "coefficients")
    return [{"view": asdict(t.view)} | {name: getattr(t, name).tolist() for name in fields} for t in terms]


def slice_terms_from(data: Iterable[Mapping[str, Any]]) -> tuple[SliceTerm, ...]:
    """The terms that were written."""
    return tuple(
        SliceTerm(
            view_from(t["view"]),
            integers(t["charges"]),
            integers(t["slices"]),
            np.asarray(t["coefficients"], dtype=float),
        )
        for t in data
    )


def view_from(data: Mapping[str, Any]) -> SliceView:
    """The view that was written."""
    return SliceView(data["parameter"], tuple(data["shape"]), tuple(data["kept"]))


def integers(values: Sequence[int]) -> np.ndarray:
    """A list of whole numbers as an array, also where it is empty."""
    return np.asarray(values, dtype=np.int64)
