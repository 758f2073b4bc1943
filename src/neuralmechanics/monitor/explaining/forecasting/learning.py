"""What a stretch of a run tells of its drives: how long steps are at unit norm, how that changes, how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion
from neuralmechanics.monitor.explaining.forecasting.settings import decay_shares
from neuralmechanics.monitor.explaining.forecasting.uncorrelated import within_reach

if TYPE_CHECKING:
    import xarray as xr

Vector = np.ndarray[Any, Any]
# Of the steps that are learned from, the first part is left to the start of the training.
_START = 1 / 3
_BLOCKS = 12
# A trend, or a mean slope beside the memory, is believed where it is so many of its errors away from none; of few
# blocks the errors themselves are unsure, and more is asked for.
_SURE = 3.0
_ALONE, _UNEVEN = 1e-4, 1 / 6  # of |d|²: what is left across θ by rounding, and by changes of |θ|² in an interval
_FEW = 4.0


@dataclass(frozen=True, eq=False)
class Learned:
    """Per charge: K of |d|² = η²K/n or η²K, gain, decay, the norm's square, and the trend of ln K.

    Decay in units of η and of the largest λ so far.
    K ∝ (step)^-trend, or e^{-trend·(step - now)/now} where `falls` says that gradients die out.
    """

    step: int
    squared: Vector
    strength: Vector
    gain: Vector
    decay: Vector
    trend: Vector
    rate_at: Vector
    """η at the last step"""
    spread: Vector
    """standard error of ln K"""
    trend_spread: Vector
    falls: np.ndarray[Any, np.dtype[np.bool_]]
    recent: Vector
    """the mean of 1/n that a preconditioner remembers, which it measures gradients by"""
    limit: Vector | None = None
    """K of gradients that are noise alone, which K goes to as the rate goes to 0; nan where that is not known"""

    def at(self, step: Vector, deviation: float = 0.0, factor: Vector | None = None) -> np.ndarray[Any, Any]:
        """K·gain [steps, charges] at later steps, `deviation` standard errors above what is expected.

        `factor`, η there in units of η now: where the limit is known, ln K is as much nearer to it as the rate is less,
        since what sets steps apart from noise (swings across steep directions) is of first order in the rate.
        """
        power = np.log(np.maximum(step, 1) / max(self.step, 1))[:, None]
        later = np.where(self.falls, (step[:, None] - self.step) / max(self.step, 1), power)
        nearer = np.zeros_like(later * self.trend)
        if self.limit is not None and factor is not None:
            toward = np.log(np.where(np.isfinite(self.limit), self.limit / self.strength, 1.0))
            nearer = toward * np.clip(1 - factor, 0, 1)[:, None]
        # Half of the way to the limit is as unsure as all that is left out: it is a part of the error.
        width = np.sqrt(self.spread**2 + (self.trend_spread * later) ** 2 + (nearer / 2) ** 2)
        grown: np.ndarray[Any, Any] = (
            self.strength * self.gain * np.exp(nearer - self.trend * later + deviation * width)
        )
        return grown


def learned(
    budget: xr.Dataset, data: xr.Dataset, motion: Motion, chosen: Vector, until: int, limit: Vector | None = None
) -> Learned:
    """From the budget up to a step; the charges of a family share the trend of their sum.

    `limit` is K of noise for every charge of the run: where it is within reach, it stands for the trend.
    ValueError where there are fewer than four records before it.
    """
    budget = budget.isel(charge=chosen)
    rows = budget["step"].to_numpy() <= until
    if rows.sum() < 4:
        raise ValueError(f"a forecast needs at least 4 records after the start, there are {int(rows.sum())} by {until}")
    parts = {str(p): budget["change"].sel(part=p).to_numpy()[rows] for p in budget["part"].to_numpy()}
    ends = budget["step"].to_numpy()[rows]
    begins = ends - interval_lengths(ends, data)
    charge, rate, rated = (data[name].isel(charge=chosen) for name in ("charge", "learning_rate", "weight_decay"))
    at = {int(step): k for k, step in enumerate(data["step"].to_numpy())}
    before, after = ([at[int(s)] for s in steps] for steps in (begins, ends))
    n, η = charge.to_numpy(), rate.to_numpy()
    middle = (n[before] + n[after]) / 2
    squares = (ends - begins)[:, None] * (η[before] ** 2 + η[before] * η[after] + η[after] ** 2) / 3
    share = decay_shares(rated.to_numpy(), data["step"].to_numpy() <= until)
    single = (ends - begins)[:, None] * _mean_product(η[before], η[after], share[before], share[after])
    weight = middle if motion.response == "gradient" else np.ones_like(middle)
    if motion.response == "proportional":
        weight = 1 / middle
    late = ends > _START * until
    lag, recent = _lag(middle, ends, ends - begins, motion.second)
    energy = parts["finite_step"] * weight * lag
    spent = -parts["weight_decay"][late].sum(0)
    change = n[after] - n[before]
    still = _moved_by_decay_alone(parts, middle * (ends - begins)[:, None], change / middle, late, motion)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where nothing else moves it, the whole change is decay's, its memory included.
        whole = (parts.get("outside", 0.0) - change)[late].sum(0) / motion.decay_share
        decay = np.where(still, whole, spent) / (single * middle)[late].sum(0)
        fit = _by_family(energy, squares, ends, late, budget["family"].to_numpy())
        gain = _gain(parts, motion, late)
        if limit is not None:
            own = energy[late].sum(0) / squares[late].sum(0)
            limit = within_reach(limit[chosen], own)
            fit = _without_trend(fit, own, np.isfinite(limit))
    return Learned(
        step=int(ends[-1]),
        squared=n[after[-1]],
        strength=np.where(still, 0.0, fit.level),
        gain=np.where(still, 1.0, gain.level),
        decay=np.nan_to_num(decay) * motion.decay_share,
        trend=np.where(still, 0.0, fit.trend),
        rate_at=η[after[-1]],
        spread=np.where(still, 0.0, np.sqrt(fit.spread**2 + gain.spread**2)),
        trend_spread=np.where(still, 0.0, fit.trend_spread),
        falls=fit.falls,
        recent=recent,
        limit=limit,
    )


def _moved_by_decay_alone(
    parts: dict[str, Vector], sums: Vector, change: Vector, late: Vector, motion: Motion
) -> Vector:
    """Whether steps go along θ alone, as decay's do where a unit is dead: Σ|d|² is Σ⟨θ,d⟩²/|θ|² then.

    What a gradient adds is at right angles to θ. ⟨θ,d⟩ is half of what the other parts moved, its mean that of an
    interval, in which it changes as |θ|² does: by that the two differ. `sums` are those of |θ|² over steps, `change` is
    that of |θ|² in units of itself; a decay that is decoupled is no part of d.
    """
    apart = {"finite_step", "outside", *(["weight_decay"] if motion.hyper.decoupled else [])}
    square = parts["finite_step"]
    along = np.sum([value for name, value in parts.items() if name not in apart], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = square - (along / 2) ** 2 / sums
        unlike = square * (change**2 * _UNEVEN + _ALONE)
    found: Vector = across[late].sum(0) <= unlike[late].sum(0)
    return found


def _mean_product(a: Vector, b: Vector, c: Vector, d: Vector) -> Vector:
    """The mean of a product of two lines, from a to b and from c to d."""
    product: Vector = (2 * (a * c + b * d) + a * d + b * c) / 6
    return product


def interval_lengths(ends: np.ndarray[Any, Any], data: xr.Dataset) -> np.ndarray[Any, Any]:
    """How many steps each interval has: since the record before."""
    steps = data["step"].to_numpy()
    found: np.ndarray[Any, Any] = ends - steps[np.searchsorted(steps, ends) - 1]
    return found


def remembered(mean: Vector, value: Vector, steps: float, kept: float, age: float) -> Vector:
    """A running mean of 1/n, with the bias of its start taken out, so many steps on; `age` counts those before."""
    before, after = (1 - kept**k for k in (age, age + steps))
    out: Vector = (mean * before * kept**steps + value * (1 - kept**steps)) / after
    return out


def _lag(middle: Vector, ends: Vector, lengths: Vector, kept: float) -> tuple[Vector, Vector]:
    """n times the mean of 1/n that the preconditioner holds: gradients ∝ 1/|θ| are measured by older ones."""
    mean, rows = 1 / middle[0], []
    for n, end, length in zip(middle, ends, lengths, strict=True):
        mean = remembered(mean, 1 / n, float(length), kept, float(end - length)) if kept else 1 / n
        rows.append(n * mean)
    return np.stack(rows), mean


@dataclass(frozen=True, eq=False)
class _Fit:
    level: Vector
    spread: Vector
    trend: Vector
    trend_spread: Vector
    falls: np.ndarray[Any, np.dtype[np.bool_]]


def _constant(level: Vector, spread: Vector) -> _Fit:
    return _Fit(level, spread, np.zeros_like(level), np.zeros_like(level), np.zeros_like(level, dtype=bool))


def _without_trend(fit: _Fit, own: Vector, chosen: Vector) -> _Fit:
    zero = np.where(chosen, 0.0, 1.0)
    level = np.where(chosen, own, fit.level)
    return _Fit(level, fit.spread, fit.trend * zero, fit.trend_spread * zero, fit.falls & ~chosen)


def _by_family(energy: Vector, squares: Vector, ends: Vector, late: Vector, families: Vector) -> _Fit:
    """The fit of each family's sum, at the level of each charge."""
    own = energy[late].sum(0) / squares[late].sum(0)
    out = _constant(own.copy(), np.zeros_like(own))
    for family in dict.fromkeys(families):
        mine = np.flatnonzero(families == family)
        joint = _fit(energy[:, mine].sum(1, keepdims=True), squares[:, mine].mean(1, keepdims=True), ends, late)
        whole = energy[late][:, mine].sum() / squares[late][:, mine].mean(1).sum()
        single = _fit(energy[:, mine], squares[:, mine], ends, late)
        out.level[mine] = own[mine] * (joint.level / whole)
        # A charge keeps its own scatter, as far as the family's trend does not take it.
        out.spread[mine] = np.maximum(joint.spread, single.spread if joint.trend[0] == 0 else joint.spread)
        out.trend[mine], out.trend_spread[mine], out.falls[mine] = joint.trend, joint.trend_spread, joint.falls
    return out


def _fit(energy: Vector, squares: Vector, ends: Vector, late: Vector) -> _Fit:
    """ln K = a - p ln(step) or a - p·step, whichever is nearer, from sums over blocks of records; else constant."""
    blocks = np.array_split(np.flatnonzero(late), min(_BLOCKS, int(late.sum())))
    K = np.stack([energy[b].sum(0) / squares[b].sum(0) for b in blocks])
    flat = energy[late].sum(0) / squares[late].sum(0)
    usable = (K > 0).all(0) & np.isfinite(K).all(0)
    logs = np.log(np.where(usable, K, 1.0))
    count = len(blocks)
    spread = logs.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.zeros_like(flat)
    if count < 6:
        return _constant(flat, spread)
    when = np.array([ends[b].mean() for b in blocks]) / ends[-1]
    power, fall = _line(np.log(when), logs), _line(when - 1, logs)
    falls = (fall.left < power.left) & (fall.slope < 0)
    best = _Line(*(np.where(falls, f, p) for f, p in zip(fall, power, strict=True)))
    sure = usable & (np.abs(best.slope) > _SURE * (1 + _FEW / (count - 2)) * best.error)
    trend_spread = np.where(sure, best.error, best.error / 2)
    return _Fit(
        np.where(sure, np.exp(best.now), flat),
        np.where(sure, best.now_error, spread),
        np.where(sure, -best.slope, 0.0),
        trend_spread,
        falls & sure,
    )


class _Line(NamedTuple):
    """A line through logarithms: its slope, its value now, their errors, and the squares that are left."""

    slope: Vector
    now: Vector
    error: Vector
    now_error: Vector
    left: Vector


def _line(when: Vector, logs: Vector) -> _Line:
    away = when - when.mean()
    square, count = float((away**2).sum()), len(when)
    slope = (away[:, None] * logs).sum(0) / square
    left = ((logs - logs.mean(0) - slope * away[:, None]) ** 2).sum(0)
    error = np.sqrt(left / (count - 2))
    wide = error * np.sqrt(1 / count + when.mean() ** 2 / square)
    return _Line(slope, logs.mean(0) - slope * when.mean(), error / np.sqrt(square), wide, left)


def _gain(parts: dict[str, Vector], motion: Motion, late: Vector) -> _Fit:
    """The growth of a norm over its |d|²: that of the memory, where what else is left is not surely there."""
    energy = parts["finite_step"][late]
    total = energy.sum(0)
    none = np.zeros_like(total)
    if motion.follows_sgd:
        assert motion.gain is not None
        return _constant(none + motion.gain, none)
    slope = parts["preconditioning"][late]
    blocks = np.array_split(np.arange(len(energy)), min(_BLOCKS, len(energy)))
    ratio = np.stack([(energy[b].sum(0) + slope[b].sum(0)) / energy[b].sum(0) for b in blocks])
    measured = 1 + slope.sum(0) / total
    error = ratio.std(0, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else none
    if motion.gain is None:
        return _constant(measured, error / np.maximum(np.abs(measured), 1e-12))
    sure = np.abs(measured - motion.gain) > _SURE * (1 + _FEW / len(blocks)) * error
    level = np.where(sure, measured, motion.gain)
    return _constant(level, np.where(sure, error / np.maximum(np.abs(measured), 1e-12), 0.0))
