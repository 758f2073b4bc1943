"""The records of a run one after the other, whichever shards they stand in, read as far as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.store.shards.part import Part

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, Any]
Index = np.ndarray[Any, np.dtype[np.intp]]
Columns = Index | slice
# Numbers of one kind that are worked on at once: what is made of them then stays in the cache, or near it.
_BLOCK = 1 << 20
# Numbers of one kind that may be held where whole courses are needed.
_HELD = 1 << 23


@dataclass(frozen=True)
class Rows:
    """Which rows of which parts, in the order of their steps."""

    parts: Sequence[Part]
    kept: Sequence[Index]

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.kept))

    def __contains__(self, name: str) -> bool:
        return any(name in part for part in self.parts)

    def column(self, name: str, dtype: Any = np.float64) -> Array:
        """One number a record; nan where it was not recorded."""
        pieces = [
            part[name][rows] if name in part else np.full(len(rows), np.nan)
            for part, rows in zip(self.parts, self.kept, strict=True)
        ]
        return np.concatenate(pieces).astype(dtype) if pieces else np.zeros(0, dtype=dtype)

    def width(self, name: str) -> int:
        """The most entries that a row has; 0 where none was recorded."""
        return max((part.width(name) for part in self.parts if name in part), default=0)

    def read(self, name: str, wanted: Index, columns: Columns, charges: int, missing: float = np.nan) -> Array:
        """Some rows and columns of [record, charge]: one number stands for all charges, `missing` for what was not."""
        found = np.empty((len(wanted), len(np.arange(charges)[columns])))
        ends = np.cumsum([0, *map(len, self.kept)])
        owner = np.searchsorted(ends, wanted, side="right") - 1
        for number in np.unique(owner).tolist():
            part, mine = self.parts[number], owner == number
            if name in part:
                rows = part[name][self.kept[number][wanted[mine] - ends[number]]].reshape(int(mine.sum()), -1)
                values = rows[:, columns] if rows.shape[1] == charges else rows
                found[mine] = values if np.isnan(missing) else np.where(np.isnan(values), missing, values)
            else:
                found[mine] = missing
        return found


def places(chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]] | slice:
    """Where the chosen ones stand: as a slice, of which nothing is copied, where they are neighbours."""
    first, count = int(chosen.argmax()) if len(chosen) else 0, int(chosen.sum())
    return slice(first, first + count) if chosen[first : first + count].all() else chosen


def few(numbers: Index, rows: int) -> Index:
    """Of some charges as many as all rows of can be held at once, an even choice with the first and the last."""
    most = max(2, _HELD // max(1, rows))
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.intp)]


def in_blocks(data: xr.Dataset) -> Iterator[xr.Dataset]:
    """The records of a dataset in stretches, so that of arrays that are read when asked for few are there at once."""
    size = max(1, _BLOCK // max(1, data.sizes.get("charge", 1)))
    for begin in range(0, data.sizes["step"], size):
        yield data.isel(step=slice(begin, begin + size))
