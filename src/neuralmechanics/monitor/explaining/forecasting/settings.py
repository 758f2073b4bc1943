"""The learning rates and decays ahead: as they were recorded, as a schedule says, or as they are now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.optimizers.hyperparameters.bounds import require_fraction, require_nonnegative

if TYPE_CHECKING:
    import xarray as xr

Vector = np.ndarray[Any, np.dtype[np.float64]]
_POINTS = 300


@dataclass(frozen=True, eq=False)
class Ahead:
    """Steps at which norms are told, and the sums of ηλ and η² over the steps up to each.

    In units of η now and of the largest λ until now.
    """

    steps: np.ndarray[Any, np.dtype[np.int64]]
    sums: Vector
    squares: Vector
    factor: Vector
    """η at each step told of, in units of η now"""
    decay_share: Vector
    """λ there, in units of the largest until now"""


Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise from the forecast's first step on; None leaves it."""

    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        for name, value in (("lr", self.learning_rate), ("weight_decay", self.weight_decay)):
            if value is not None:
                require_nonnegative(name, value)
        if self.momentum is not None:
            require_fraction("momentum", self.momentum)
        if self.schedule is not None and not callable(self.schedule):
            raise TypeError(
                f"schedule is a {type(self.schedule).__name__}; give a function of the step that returns its learning "
                "rate"
            )


def ahead(data: xr.Dataset, begin: int, end: int, changes: Changes, rate: float) -> Ahead:
    """From a step to a later one: what is changed, else what was recorded, then the last known.

    `rate` is η now, which the numbers are in units of. ValueError for an end that is not ahead.
    """
    if end <= begin:
        raise ValueError(f"a forecast to step {end} has to lie ahead of step {begin}, which it is made at")
    steps, known = np.arange(begin, end), data["step"].to_numpy()
    recorded = _largest(data, "learning_rate")
    schedule = changes.schedule
    if schedule is not None:
        rates = np.array([float(schedule(int(step))) for step in steps])
    elif changes.learning_rate is not None:
        rates = np.full(len(steps), float(changes.learning_rate))
    else:
        # A record holds what its own step used.
        rates = np.interp(steps + 1, known, recorded)
    shares = decay_shares(_largest(data, "weight_decay")[:, None], known <= begin)[:, 0]
    if changes.weight_decay is not None:
        share = np.ones(len(steps))
    elif schedule is not None or changes.learning_rate is not None:
        share = np.full(len(steps), shares[known <= begin][-1])
    else:
        share = np.interp(steps + 1, known, shares)
    factors = rates / rate if rate > 0 else np.zeros(len(rates))
    edges = np.unique(np.linspace(0, len(steps), min(_POINTS, len(steps)) + 1).round().astype(int))
    sums, squares = (np.concatenate([[0.0], np.cumsum(f)])[edges] for f in (factors * share, factors**2))
    last = np.maximum(edges[1:] - 1, 0)
    return Ahead(begin + edges[1:], np.diff(sums), np.diff(squares), factors[last], share[last])


def decay_shares(decays: Vector, until_now: np.ndarray[Any, np.dtype[np.bool_]]) -> Vector:
    """λ [records, …] in units of its largest until now; 1 where there is none, or none that is known.

    >>> decay_shares(np.array([[0.2], [0.1], [0.4]]), np.array([True, True, False])).ravel()
    array([1. , 0.5, 2. ])
    """
    known = np.where(np.isfinite(decays), decays, 0.0)
    most = known[until_now].max(0, initial=0.0)
    return np.where((most > 0) & np.isfinite(decays), known / np.where(most > 0, most, 1.0), 1.0)


def _largest(data: xr.Dataset, name: str) -> Vector:
    """A setting at each record, the largest over the charges; nan where no charge has one."""
    values = data[name].to_numpy()
    out: Vector = np.max(np.where(np.isnan(values), -np.inf, values), axis=1, initial=-np.inf)
    return np.where(np.isfinite(out), out, np.nan)
