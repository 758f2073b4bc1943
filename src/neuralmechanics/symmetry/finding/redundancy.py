"""Scalings that move no element: solutions of which the labels differ from zero and their sum on every tensor does not.

The label of a weight is r_i + c_j, so that r + t, c - t is the same scaling. The walk fixes t as it goes, once for each
tensor, where it can. Where it could not, the null space has vectors too many, and every one of them would be a charge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from scipy import sparse

from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.scaling.label import Label

__all__ = ["distinct_scalings"]


def distinct_scalings(scales: Scales) -> NullSpace:
    """The null space of a walk; of vectors that together move no element of any parameter all but one are kept."""
    space = scales.system.solve()
    if not scales.gauges.left_over() or not space.count:
        return space
    kept = independent_columns(sparse.vstack(list(_moved(scales.parameters, space)), format="csr"))
    return replace(space, distinct=space.distinct[:, kept])


def _moved(labels: Mapping[str, Label], space: NullSpace) -> Iterator[sparse.csr_matrix]:
    """By how much every basis vector scales elements of the parameters, enough of them to know it of all.

    A sum of functions of some of the coordinates each is zero where it is zero on all elements of which the coordinates
    that one function does not see are zero.
    """
    for label in labels.values():
        for seen in label.terms:
            part = sparse.csr_matrix((seen.ids.size, space.count))
            for term in label.terms:
                first = tuple(slice(0, 1) if n == 1 else slice(None) for n in seen.ids.shape)
                ids = np.broadcast_to(term.ids[first], seen.ids.shape).reshape(-1)
                part = part + float(term.coefficient) * space.distinct[space.place[ids]]
            yield part
