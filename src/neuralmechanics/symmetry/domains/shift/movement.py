"""Changes of rearranged tensors: coefficients move as entries do, functions note what they cannot follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuralmechanics.symmetry.domains.shift.variation import Change, ChangeTerm, Shape, alone_nowhere, wide_dims
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups


def placed_in(t: ChangeTerm, dim: int, start: int, length: int, total: int) -> ChangeTerm:
    """The term as a part of a concatenation: zero coefficients on the other parts."""
    # The functions differ along the dimension: where the part lies belongs to what they are.
    if dim in t.varies:
        return t.then(("placed", dim, start, total), t.ids, t.varies)
    sizes = list(t.ids.shape)
    sizes[dim] = total
    ids = np.zeros(sizes, t.ids.dtype)
    index = [slice(None)] * len(sizes)
    index[dim] = slice(start, start + length)
    ids[tuple(index)] = t.ids
    return replace(t, ids=ids)


def viewed_dims(dims: frozenset[int], view: View, shape: Shape, out: Shape) -> frozenset[int]:
    if isinstance(view, Permute):
        return frozenset(k for k, d in enumerate(view.order) if d in dims)
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        return frozenset(d + front for d in dims if shape[d] > 1)
    if isinstance(view, Take):
        return dims if len(view.positions) > 1 else dims - {view.dim}
    touched = set()
    for inside, outside in dimension_groups(shape, out):
        if dims & set(inside):
            touched |= {d for d in outside if out[d] > 1}
    return frozenset(touched)


def viewed_whole(dim: int | None, x: Change, view: View, out: Shape) -> int | None:
    """Where a dimension of x along which the entries add up to something has gone, if it is whole."""
    if dim is None or isinstance(view, Take):
        return None
    if isinstance(view, Permute):
        return view.order.index(dim)
    if isinstance(view, Expand):
        return dim + len(out) - len(x.shape)
    groups = [outside for inside, outside in dimension_groups(x.shape, out) if dim in inside and len(inside) == 1]
    return groups[0][0] if groups and len(groups[0]) == 1 else None


def viewed_terms(x: Change, view: View, out: Shape) -> tuple[ChangeTerm, ...]:
    """All terms; of a tensor that is written part by part, a slice holds few of them."""
    terms = tuple(_viewed_term(t, view, x.shape, out) for t in x.terms)
    return tuple(t for t in terms if t.ids.any()) if isinstance(view, Take) else terms


def _viewed_term(t: ChangeTerm, view: View, shape: Shape, out: Shape) -> ChangeTerm:
    if isinstance(view, Permute):
        places = {d: k for k, d in enumerate(view.order)}
        return t.moved(t.ids.transpose([*view.order, t.ids.ndim - 1]), places)
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        places = {d: d + front for d in wide_dims(shape)}
        return alone_nowhere(t, shape).moved(t.ids.reshape((1,) * front + t.ids.shape), places)
    if isinstance(view, Take):
        if view.dim in t.varies:
            return taken_term(t, view)
        if t.ids.shape[view.dim] == 1:
            return t
        return replace(t, ids=t.ids.take(np.asarray(view.positions, dtype=np.int64), axis=view.dim))
    return _reshaped_term(t, shape, out)


def taken_term(t: ChangeTerm, take: Take) -> ChangeTerm:
    """The term at some entries along a dimension where its functions vary: said of their own axis, wherever it lies."""
    axis = dict(t.along)[take.dim]
    left = t.along if len(take.positions) > 1 else tuple(pair for pair in t.along if pair[0] != take.dim)
    key, last = t.key, t.key[-1]
    if isinstance(last, tuple) and last[:2] == ("only", axis):  # a function that is zero but for some entries
        if not set(take.positions) & set(last[2]):
            return replace(t, ids=np.zeros_like(t.ids), along=left)
        key = key[:-1] if set(take.positions) <= set(last[2]) else key
    return replace(t, key=(*key, ("take", axis, take.positions)), along=left)


def _reshaped_term(t: ChangeTerm, shape: Shape, out: Shape) -> ChangeTerm:
    """The term after a reshape: dimensions that merge or split with a varying one become others of new functions."""
    ids, merged = t.ids, False
    places: dict[int, int] = {}
    for inside, outside in dimension_groups(shape, out):
        wide, after = [d for d in inside if shape[d] > 1], [d for d in outside if out[d] > 1]
        if len(wide) == len(after) == 1:
            places[wide[0]] = after[0]
        elif t.varies & set(inside):
            ids, merged = replace(t, ids=ids).absorbed(inside, shape), True
    pattern = tuple(sorted(t.pattern - replace(t, ids=ids).pattern))
    ids = np.moveaxis(_reshaped(np.moveaxis(ids, -1, 0), shape, out), 0, -1)
    if merged:
        return t.then(("reshape", shape, out, pattern), ids, viewed_dims(t.varies, Reshape(out), shape, out))
    return alone_nowhere(t, shape).moved(ids, places)


def _reshaped(array: np.ndarray, shape: Shape, out: Shape) -> np.ndarray:
    """Row-major reshape of all dimensions but the first, of a compressed array."""
    return Reshape((array.shape[0], *out)).apply(array, (array.shape[0], *shape))
