"""Arrays for xarray that are read as far as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from neuralmechanics.monitor.reading.rows import Array, Columns, Index

__all__ = ["lazy_variable"]

# What is no larger is kept once it was read.
_KEPT_BYTES = 64 << 20

Read = Callable[[int, Index, Columns], Array]


class _LazyArray(BackendArray):
    """float64 [layer, row, column], or [row, column]; `read` gives some rows and columns of a layer."""

    def __init__(self, shape: tuple[int, ...], read: Read) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.float64)
        self._read = read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Array:
        support = indexing.IndexingSupport.OUTER
        found: Array = indexing.explicit_indexing_adapter(key, self.shape, support, self._outer)
        return found

    def _outer(self, key: tuple[Any, ...]) -> Array:
        full, sizes = (key, self.shape) if len(self.shape) == 3 else ((0, *key), (1, *self.shape))
        layers, rows, columns = (np.atleast_1d(np.arange(size)[k]) for size, k in zip(sizes, full, strict=True))
        chosen = full[2] if isinstance(full[2], slice) else columns
        found = np.empty((len(layers), len(rows), len(columns)))
        for position, layer in enumerate(layers.tolist()):
            found[position] = self._read(layer, rows, chosen)
        single = tuple(axis for axis, k in enumerate(full) if isinstance(k, (int, np.integer)))
        return found.squeeze(axis=single)


def lazy_variable(dims: Sequence[Hashable], shape: tuple[int, ...], read: Read) -> xr.Variable:
    """A variable of float64 whose last two dimensions are rows and columns; see `_LazyArray`."""
    wrappers: Any = indexing  # typed more narrowly than what xarray's own backends pass
    array = wrappers.CopyOnWriteArray(wrappers.LazilyIndexedArray(_LazyArray(shape, read)))
    small = 8 * int(np.prod(shape)) <= _KEPT_BYTES
    return xr.Variable(dims, wrappers.MemoryCachedArray(array) if small else array)
