"""Solutions that move no element: their variables differ from zero, and what these add up to on every tensor does not.

The label of a weight is r_i + c_j, so that r + t, c - t is the same scaling; and so it is with the shift of a weight
that is too large for a variable an element. The walk fixes t as it goes, once for each tensor, where it can. Where it
could not, the null space has vectors too many, and every one of them would be a charge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.rows import row_counts
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


def _independent(space: NullSpace, tensors: Iterable[Sequence[Addend]]) -> NullSpace:
    """The space without vectors that others make up on all elements; what moves the fewest is kept first."""
    moved, times = _moved(tensors, space)
    elements = np.repeat(times, np.diff(moved.indptr))
    # Few elements a vector make a local basis, in which each charge belongs to one place of the model.
    order = np.argsort(np.bincount(moved.indices, elements, space.count), kind="stable")
    kept = np.sort(order[independent_columns(moved[:, order])])
    return replace(space, distinct=space.distinct[:, kept])


def _moved(tensors: Iterable[Sequence[Addend]], space: NullSpace) -> tuple[sparse.csr_matrix, np.ndarray]:
    """By how much every basis vector moves elements of the tensors, enough of them to know it of all.

    A sum of functions of some of the coordinates each is zero where it is zero on all elements of which the coordinates
    that one function does not see are zero. Elements that all vectors move alike are one row, given with their number.
    """
    tables: dict[tuple[float, ...], list[np.ndarray]] = {}
    for addends in tensors:
        for _, seen in addends:
            first = tuple(slice(0, 1) if n == 1 else slice(None) for n in seen.shape)
            # The coordinates that ``seen`` does not tell apart are held at zero, which is enough (see above).
            places = [np.broadcast_to(space.place[ids[first]], seen.shape).reshape(-1) for _, ids in addends]
            tables.setdefault(tuple(factor for factor, _ in addends), []).append(np.stack(places, axis=1))
    parts, times = [sparse.csr_matrix((0, space.count))], [np.zeros(0, np.int64)]
    for factors, found in tables.items():
        kinds, count = row_counts(np.concatenate(found))
        part = sparse.csr_matrix((len(kinds), space.count))
        for factor, rows in zip(factors, kinds.T, strict=True):
            part = part + factor * space.distinct[rows]
        parts.append(part)
        times.append(count)
    moved = sparse.csr_matrix(sparse.vstack(parts, format="csr"))
    moved.eliminate_zeros()
    return moved, np.concatenate(times)
