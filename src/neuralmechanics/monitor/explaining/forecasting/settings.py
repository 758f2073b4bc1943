"""The learning rates ahead: as they were recorded, as a schedule says, or as they are now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Vector = np.ndarray[Any, np.dtype[np.float64]]
_POINTS = 300


@dataclass(frozen=True, eq=False)
class Ahead:
    """Steps at which norms are told, and the sums of η and η² over the steps up to each, in units of η now."""

    steps: np.ndarray[Any, np.dtype[np.int64]]
    sums: Vector
    squares: Vector
    factor: Vector
    """η at each step told of, in units of η now"""


Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise from the forecast's first step on; None leaves it."""

    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    schedule: Schedule | None = None


def ahead(data: xr.Dataset, begin: int, end: int, schedule: Schedule | None, rate: float) -> Ahead:
    """From a step to a later one. `schedule` gives η of each step; without, what was recorded, then the last known.

    `rate` is η now, which the numbers are in units of. ValueError for an end that is not ahead.
    """
    if end <= begin:
        raise ValueError(f"a forecast to step {end} has to lie ahead of step {begin}, which it is made at")
    steps = np.arange(begin, end)
    if schedule is not None:
        rates = np.array([float(schedule(int(step))) for step in steps])
    else:
        known = data["step"].to_numpy()
        recorded = np.nanmax(data["learning_rate"].to_numpy(), axis=1) if data.sizes["charge"] else np.zeros(len(known))
        # A record holds what its own step used.
        rates = np.interp(steps + 1, known, recorded)
    factors = rates / rate if rate > 0 else np.zeros(len(rates))
    edges = np.unique(np.linspace(0, len(steps), min(_POINTS, len(steps)) + 1).round().astype(int))
    sums, squares = (np.concatenate([[0.0], np.cumsum(f)])[edges] for f in (factors, factors**2))
    return Ahead(begin + edges[1:], np.diff(sums), np.diff(squares), factors[np.maximum(edges[1:] - 1, 0)])
