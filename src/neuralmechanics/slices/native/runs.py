"""A sparse map as runs: neighbours that are added to neighbours take one line, whatever their number."""

from __future__ import annotations

import numpy as np

__all__ = ["RUN", "runs_of"]

# The same as in the sources beside this file, whose size of a run is compared with this one's.
RUN = np.dtype([("source", "i4"), ("charge", "i4"), ("count", "i4"), ("each", "i4"), ("weight", "f8")])
"""`count` charges from `charge` on, to which `each` neighbours from `source` on are added, then the next `each`."""


def runs_of(source: np.ndarray, charge: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The runs of a map that adds weight · values[source] to out[charge], in its order.

    >>> runs_of(np.arange(6), np.array([4, 4, 5, 5, 6, 6]), np.ones(6)).tolist()
    [(0, 4, 3, 2, 1.0)]
    """
    if not len(source):
        return np.zeros(0, dtype=RUN)
    # First neighbours that add to one charge, then groups of these that are equally long and lie side by side, as do
    # their charges: a layer's hundreds of rows become one line, and the loop over them reads memory in its order.
    apart = (np.diff(source) != 1) | (np.diff(charge) != 0) | (np.diff(weight) != 0)
    first = np.r_[0, 1 + np.flatnonzero(apart)]
    each = np.diff(np.r_[first, len(source)])
    source, charge, weight = source[first], charge[first], weight[first]
    apart = (np.diff(each) != 0) | (np.diff(source) != each[:-1]) | (np.diff(charge) != 1) | (np.diff(weight) != 0)
    begin = np.r_[0, 1 + np.flatnonzero(apart)]
    runs = np.zeros(len(begin), dtype=RUN)
    runs["source"], runs["charge"], runs["weight"] = source[begin], charge[begin], weight[begin]
    runs["count"], runs["each"] = np.diff(np.r_[begin, len(source)]), each[begin]
    return runs
