"""Many records of a run of floats in fewer bytes: what a later record knows of an earlier one is not written twice.

In a shard of several records, where every parameter is a float of 32 bits or fewer, the last record is stored as it is
and the charges before as their differences from it, as floats: to 6e-8 of how far a charge moved until then. Before it,
residuals and the distances of predictions from charges keep 8 binary digits, and so do the parts of the budget, all
but the greatest: that follows from the others, from the charges and from what was left of them as rounding, so that
the parts add up as they did when they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, ERROR_PREFIX, FIRST_PREFIX, LAST_PREFIX, LEFT
from neuralmechanics.monitor.store.shards.shard import Arrays

_OUTSIDE = "outside"
_LARGEST = 1e37
_HALF = np.dtype(np.uint16)


def narrowed(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays of a shard, those of several records of floats in fewer bytes.

    >>> rows = {"charge": np.linspace(1, 2, 10).reshape(5, 2), "residual": np.ones((5, 2), np.float32)}
    >>> {name: array.dtype.name for name, array in narrowed(rows).items()}
    {'charge': 'float32', 'last/charge': 'float64', 'residual': 'uint16', 'last/residual': 'float32'}
    """
    out: Arrays = {}
    for piece in narrowing(list(arrays), arrays.__getitem__):
        out |= piece
    return out


def narrowing(names: Sequence[str], read: Callable[[str], np.ndarray]) -> Iterator[Arrays]:
    """The same array by array: `read` gives one, some of them twice, and what is finished is yielded.

    So is nothing, where as much work was done as for an array.
    """
    charge = read("charge")
    yield {}
    # Residuals are floats where every parameter is: see `compacted`.
    floats = "residual" in names and read("residual").dtype == np.float32
    if len(charge) < 2 or not floats or charge.dtype != np.float64:
        yield from ({name: read(name)} for name in names)
        return
    yield {}
    finite = bool(np.isfinite(charge).all() and np.abs(charge).max(initial=0.0) < _LARGEST)
    budget = [name for name in names if finite and name.startswith(BUDGET_PREFIX)]
    for name in names:
        if name == "charge" and finite:
            yield {name: (charge - charge[-1:]).astype(np.float32), LAST_PREFIX + name: charge[-1:].copy()}
        elif name == "residual" or name.startswith(ERROR_PREFIX):
            array = read(name)
            yield {name: _shortened(array), LAST_PREFIX + name: array[-1:].copy()}
        elif name not in budget:
            yield {name: read(name)}
    if budget:
        outside = {_OUTSIDE: read(_OUTSIDE)} if _OUTSIDE in names else {}
        change = _change({"charge": charge, **outside})
        yield {}
        yield from _narrowing_budget(budget, read, change)


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
            whole: np.ndarray = last + array.astype(np.float64)
            return whole
        return np.concatenate([_lengthened(array[:-1]), last])
    return _lengthened(array) if name.startswith(BUDGET_PREFIX) and array.dtype == _HALF else array


def _narrowing_budget(names: Sequence[str], read: Callable[[str], np.ndarray], change: np.ndarray) -> Iterator[Arrays]:
    """The parts in 16 bits, what they leave of the change in place of the greatest; as they are where one ran away."""
    total, sizes, far = np.zeros_like(change), {}, LEFT in names
    yield {}
    for name in names:
        array = read(name)
        known = np.where(np.isnan(array), 0.0, array)
        total += known[1:]
        np.abs(known, out=known)
        far |= bool(known.max(initial=0.0) > _LARGEST)
        sizes[name] = float(known.sum(dtype=np.float64))
        yield {}
    if far or not names:
        yield from ({name: read(name)} for name in names)
        return
    greatest = max(names, key=sizes.__getitem__)
    for name in names:
        array = read(name)
        if name == greatest:
            left = np.concatenate([np.zeros_like(change[:1]), change - total])
            left[np.isnan(array)] = np.nan
            yield {FIRST_PREFIX + name: array[:1].copy(), LEFT: _shortened(left)}
        else:
            yield {name: _shortened(array)}


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
    return np.where(np.isnan(values), np.uint16(0x7FC0), upper)


def _lengthened(values: np.ndarray) -> np.ndarray:
    """The floats whose upper 16 bits these are."""
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
