"""Many records of a run of floats in fewer bytes: what a later record knows of an earlier one is not written twice.

In a shard of several records, where every parameter is a float of 32 bits or fewer, the last record is stored as it is
and the charges before as their differences from it, as floats: to 6e-8 of how far a charge moved until then. Before it,
residuals and the distances of predictions from charges keep 8 binary digits, and so do the parts of the budget, all
but the greatest: that follows from the others, from the charges and from what was left of them as rounding, so that
the parts add up as they did when they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, ERROR_PREFIX, FIRST_PREFIX, LAST_PREFIX, LEFT
from neuralmechanics.monitor.store.shards.shard import Arrays

_OUTSIDE = "outside"
_LARGEST = 1e37
_HALF = np.dtype(np.uint16)
_INFINITE, _NOT_A_NUMBER = np.uint16(0x7F80), np.uint16(0x7FC0)


class Rows(Protocol):
    """Records that are read one at a time."""

    @property
    def count(self) -> int:
        """How many there are."""

    def dtype(self, name: str) -> np.dtype:
        """The type of all rows of an array together."""

    def row(self, name: str, number: int) -> np.ndarray:
        """What one record has of an array: [1, …], of what is kept for each step one row a step."""


class _InMemory:
    """The rows of arrays that are there."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.count = len(arrays["charge"])

    def dtype(self, name: str) -> np.dtype:
        dtype: np.dtype = self._arrays[name].dtype
        return dtype

    def row(self, name: str, number: int) -> np.ndarray:
        array = self._arrays[name]
        if len(array) != self.count:  # what is kept for each step is not cut
            return array if number == 0 else array[:0]
        return array[number : number + 1]


def narrowed(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays of a shard, those of several records of floats in fewer bytes.

    >>> rows = {"charge": np.linspace(1, 2, 10).reshape(5, 2), "residual": np.ones((5, 2), np.float32)}
    >>> {name: array.dtype.name for name, array in narrowed(rows).items()}
    {'charge': 'float32', 'last/charge': 'float64', 'residual': 'uint16', 'last/residual': 'float32'}
    """
    out: Arrays = {}
    for piece in narrowing(list(arrays), _InMemory(arrays)):
        out |= piece
    return out


def narrowing(names: Sequence[str], rows: Rows) -> Iterator[Arrays]:
    """The same record by record, so that each is read once: nothing is yielded after each, then the arrays."""
    floats = "residual" in names and rows.dtype("residual") == np.float32
    if rows.count < 2 or not floats or rows.dtype("charge") != np.float64:
        for name in names:
            yield {name: _whole(name, rows)}
        return
    work = _Narrowing(names, rows)
    for number in range(rows.count):
        work.take(number)
        yield {}
    yield from work.arrays()


class _Narrowing:
    """Records in fewer bytes, as far as they were taken; what cannot be kept so shows on the way."""

    def __init__(self, names: Sequence[str], rows: Rows) -> None:
        self._names, self._rows = names, rows
        self._last = rows.row("charge", rows.count - 1)
        self._before = self._last
        shape = (rows.count, self._last.shape[1])
        self._moved = np.empty(shape, dtype=np.float32)
        self._short = {n: np.empty(shape, dtype=_HALF) for n in names if n == "residual" or n.startswith(ERROR_PREFIX)}
        self._budget = [] if LEFT in names else [name for name in names if name.startswith(BUDGET_PREFIX)]
        self._parts = {name: np.empty(shape, dtype=_HALF) for name in self._budget}
        self._left = np.zeros(shape if self._budget else (0, 0), dtype=_HALF)
        self._sizes = dict.fromkeys(self._budget, 0.0)
        self._finite = True
        self._far = False

    def take(self, number: int) -> None:
        """One record more, in their order."""
        charge = self._rows.row("charge", number)
        size = np.abs(charge).max(initial=0.0)  # nan where one is
        self._finite = self._finite and bool(size < _LARGEST)
        if self._finite:
            self._moved[number] = (charge - self._last)[0]
        for name, short in self._short.items():
            short[number] = _shortened(self._rows.row(name, number))[0]
        if self._finite and self._budget and not self._far:
            self._divide(number, charge)
        self._before = charge

    def _divide(self, number: int, charge: np.ndarray) -> None:
        """The parts of the budget of a record, and what they leave of the change since the one before."""
        total = np.zeros_like(charge)
        for name in self._budget:
            part = self._rows.row(name, number)
            self._parts[name][number] = _shortened(part)[0]
            known = np.where(np.isnan(part), 0.0, part)
            total += known
            np.abs(known, out=known)
            self._far = self._far or bool(known.max(initial=0.0) > _LARGEST)
            self._sizes[name] += float(known.sum(dtype=np.float64))
        if number > 0 and not self._far:
            outside = [self._rows.row(_OUTSIDE, number)] if _OUTSIDE in self._names else []
            self._left[number] = _shortened(charge - self._before - _sum(outside) - total)[0]

    def arrays(self) -> Iterator[Arrays]:
        """All of them, each when it is finished."""
        rows, last = self._rows, self._rows.count - 1
        divided = bool(self._budget) and self._finite and not self._far
        greatest = max(self._budget, key=self._sizes.__getitem__) if divided else None
        for name in self._names:
            if name == "charge" and self._finite:
                yield {name: self._moved, LAST_PREFIX + name: self._last}
            elif name in self._short:
                end = rows.row(name, last).astype(rows.dtype(name), copy=False)
                yield {name: self._short[name], LAST_PREFIX + name: end}
            elif name == greatest:
                gaps = (self._parts[name] & np.uint16(0x7FFF)) > _INFINITE
                left = np.where(gaps, _NOT_A_NUMBER, self._left)
                yield {FIRST_PREFIX + name: rows.row(name, 0).astype(rows.dtype(name), copy=False), LEFT: left}
            elif name in self._parts and divided:
                yield {name: self._parts[name]}
            else:
                yield {name: _whole(name, rows)}


def _whole(name: str, rows: Rows) -> np.ndarray:
    return np.concatenate([rows.row(name, number) for number in range(rows.count)])


def broadened(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays as they were measured, in their own types."""
    return {name: broadened_array(arrays, name) for name in broadened_names(arrays)}


def broadened_names(stored: Iterable[str]) -> list[str]:
    """The names of what was measured, from those of what is stored."""
    names = list(stored)
    derived = [name.removeprefix(FIRST_PREFIX) for name in names if name.startswith(FIRST_PREFIX)]
    hidden = (FIRST_PREFIX, LAST_PREFIX, *((LEFT,) if derived else ()))
    return [*(name for name in names if not name.startswith(hidden)), *derived]


def broadened_array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One array as it was measured, in its own type; of the others only those are read that it follows from."""
    if FIRST_PREFIX + name in arrays:
        return _greatest(arrays, name)
    array = arrays[name]
    if LAST_PREFIX + name in arrays:
        last = arrays[LAST_PREFIX + name]
        if name == "charge":
            whole: np.ndarray = array.astype(np.float64)
            whole += last
            return whole
        return np.concatenate([_lengthened(array[:-1]), last])
    return _lengthened(array) if name.startswith(BUDGET_PREFIX) and array.dtype == _HALF else array


def _greatest(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The part of the budget that follows from all others."""
    others = [n for n in broadened_names(arrays) if n.startswith(BUDGET_PREFIX) and n != name]
    rest = _change({n: broadened_array(arrays, n) for n in ("charge", _OUTSIDE) if n in arrays})
    rest -= _sum([broadened_array(arrays, n)[1:] for n in others])
    rest -= _lengthened(arrays[LEFT])[1:]
    return np.concatenate([arrays[FIRST_PREFIX + name].astype(np.float64), rest])


def _change(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What moved each charge from record to record, but for what came from outside."""
    change: np.ndarray = np.diff(arrays["charge"], axis=0).astype(np.float64, copy=False)
    return change - _sum([arrays[_OUTSIDE][1:]]) if _OUTSIDE in arrays else change


def _sum(parts: Iterable[np.ndarray]) -> np.ndarray | float:
    """In double precision; where nothing was written nothing happened."""
    return sum((np.where(np.isnan(part), 0.0, part.astype(np.float64)) for part in parts), start=0.0)


def _shortened(values: np.ndarray) -> np.ndarray:
    """Floats rounded to their upper 16 bits (bfloat16); what is not a number stays so."""
    values = np.ascontiguousarray(values, dtype=np.float32)  # a gap between records has made doubles of them
    bits = values.view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    upper = (np.where(np.isfinite(values), nearest, bits) >> np.uint32(16)).astype(_HALF)
    return np.where(np.isnan(values), _NOT_A_NUMBER, upper)


def _lengthened(values: np.ndarray) -> np.ndarray:
    """The floats whose upper 16 bits these are."""
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
