"""Solutions that move no element: their variables differ from zero, and what these add up to on every tensor does not.

The label of a weight is r_i + c_j, so that r + t, c - t is the same scaling; and so it is with the shift of a weight
that is too large for a variable an element. The walk fixes t as it goes, once for each tensor, where it can. Where it
could not, the null space has vectors too many, and every one of them would be a charge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.shift.domain import Shifts

__all__ = ["distinct_scalings", "distinct_shifts"]

Addend = tuple[float, np.ndarray]
"""A factor, and variables with one entry along every dimension in which they are constant."""


def distinct_scalings(scales: Scales) -> NullSpace:
    """The null space of a walk; of vectors that together move no element of any parameter all but one are kept."""
    space = scales.system.solve()
    if not scales.gauges.left_over() or not space.count:
        return space
    return _independent(space, [[(float(t.coefficient), t.ids) for t in x.terms] for x in scales.parameters.values()])


def distinct_shifts(shifts: Shifts, space: NullSpace) -> NullSpace:
    """The null space of a walk for shifts; of vectors that together shift no element all but one are kept."""
    tensors = [[(1.0, ids) for ids in arrays] for arrays in shifts.parameters.values()]
    tensors += [[(1.0, absorbed.ids)] for absorbed in shifts.absorbed]
    doubled = [addends for addends in tensors if sum(len(space.basis_of(ids)) > 0 for _, ids in addends) > 1]
    return _independent(space, tensors) if doubled else space


def _independent(space: NullSpace, tensors: Sequence[Sequence[Addend]]) -> NullSpace:
    """The space without vectors that others make up on all elements; what moves the fewest is kept first."""
    moved = sparse.vstack([part for addends in tensors for part in _moved(addends, space)], format="csr")
    order = np.argsort(np.diff(moved.tocsc().indptr), kind="stable")
    kept = np.sort(order[independent_columns(moved[:, order])])
    return replace(space, distinct=space.distinct[:, kept])


def _moved(addends: Sequence[Addend], space: NullSpace) -> Iterator[sparse.csr_matrix]:
    """By how much every basis vector moves elements of a tensor, enough of them to know it of all.

    A sum of functions of some of the coordinates each is zero where it is zero on all elements of which the coordinates
    that one function does not see are zero.
    """
    for _, seen in addends:
        part = sparse.csr_matrix((seen.size, space.count))
        for factor, ids in addends:
            first = tuple(slice(0, 1) if n == 1 else slice(None) for n in seen.shape)
            places = np.broadcast_to(ids[first], seen.shape).reshape(-1)
            part = part + factor * space.distinct[space.place[places]]
        yield part
