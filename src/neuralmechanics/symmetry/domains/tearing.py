"""Channels of which each takes other entries from beside it: gathers along a dimension that merges them with more."""

from __future__ import annotations

import numpy as np

from neuralmechanics.symmetry.program.attributes.views import Take

__all__ = ["tears_channels"]


def tears_channels(ids: np.ndarray, view: Take) -> bool:
    """Whether places along a merged dimension are taken for one channel that are not taken for another.

    Channels stand in it once for each index that was merged with them; at which of these times each is taken must be
    the same for all that are taken at all.
    """
    count = ids.shape[view.dim]
    if count == 1:
        return False
    rows = np.moveaxis(ids, view.dim, 0).reshape(count, -1)
    kinds, kind = np.unique(rows, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    if len(kinds) == count:
        return False
    order = np.argsort(kind, kind="stable")
    first = np.searchsorted(kind[order], np.arange(len(kinds)))
    time = np.empty(count, dtype=np.int64)
    time[order] = np.arange(count) - first[kind[order]]
    taken = np.asarray(view.positions, dtype=np.int64)
    # Row 0 throughout stands for the label zero, which is no channel.
    times = [time[taken[kind[taken] == k]] for k in range(len(kinds)) if kinds[k].any()]
    met = [each for each in times if each.size]
    return any(not np.array_equal(each, met[0]) for each in met[1:])
