"""A forecast of a run: every scale-free norm and its rotation, and how fast what decays is gone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.laws.equilibrium import (
    memory_gain,
    settled_norm,
    steps_until,
    strength_of_noise,
)
from neuralmechanics.monitor.explaining.budget import layers, rows_of
from neuralmechanics.monitor.explaining.forecasting.decaying import decaying
from neuralmechanics.monitor.explaining.forecasting.learning import Learned, learned
from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion, motion_of
from neuralmechanics.monitor.explaining.forecasting.paths import BANDS, WIDTH, bands_of, path_of, rotation
from neuralmechanics.monitor.explaining.forecasting.settings import Ahead, Changes, ahead
from neuralmechanics.monitor.explaining.forecasting.uncorrelated import noise_limit
from neuralmechanics.monitor.reading.errors import finite_throughout
from neuralmechanics.monitor.reading.rows import few
from neuralmechanics.optimizers.hyperparameters.bounds import require_whole
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuralmechanics.monitor.reading.run import Run

_NEAR = 0.05


@dataclass(frozen=True, eq=False)
class Forecast:
    """Where the norms of a run go.

    `scales`: one row a scale-free group, `others`: one a family of translation and rescale charges. `paths`: norm, low
    and high [step, charge] of the scale charges. `withheld`: what is not forecast, and why.
    """

    step: int
    to: int
    scales: pd.DataFrame
    others: pd.DataFrame
    paths: xr.Dataset
    withheld: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: numbers that are not finite are null."""
        tables = {"scales": rows_of(self.scales), "others": rows_of(self.others)}
        return {"step": self.step, "to": self.to, **tables, "withheld": list(self.withheld)}

    def by_layer(self) -> pd.DataFrame:
        """The scale-free groups of each layer: their number and the medians over them."""
        numbers = [c for c in self.scales.columns if c not in ("layer", "family", "label", "regime")]
        grouped = self.scales.groupby(["layer", "family"], sort=False)
        table = grouped[numbers].median()
        table.insert(0, "groups", grouped.size())
        return table.reset_index()

    def __str__(self) -> str:
        from neuralmechanics.report import text_table

        parts = [f"From step {self.step} to step {self.to}; |θ| with an interval of two standard errors."]
        if len(self.scales):
            parts.append(text_table(self.by_layer()))
        if len(self.others):
            parts.append(text_table(self.others))
        return "\n\n".join([*parts, *(f"withheld: {reason}" for reason in self.withheld)])


def forecast(run: Run, to: int | None, learned_until: int | None, changes: Changes) -> Forecast:
    """See `Run.forecast`."""
    for name, number in (("to", to), ("learned_until", learned_until)):
        if number is not None:
            require_whole(name, number, 0)
    data, symmetries = run.data, run.symmetries
    steps = data["step"].to_numpy()
    if not len(steps):
        raise ValueError("a forecast needs at least 4 records after the start, there are none")
    last = int(steps[-1])
    until = last if learned_until is None else int(steps[steps <= learned_until].max(initial=0))
    end = to if to is not None else (last if until < last else 2 * max(last, 1))
    books = run.budget()
    kinds = np.array(symmetries.kinds)
    finite = finite_throughout(data.isel(step=np.flatnonzero(steps <= until)))
    withheld: list[str] = [] if finite.all() else [f"{int((~finite).sum())} charges that are no finite numbers"]
    motion, why = _motion(run)
    chosen = np.flatnonzero((kinds == "scale") & finite) if motion else np.zeros(0, dtype=int)
    if why:
        withheld.append(why)
    if len(asked := few(chosen, len(steps))) < len(chosen):
        withheld.append(
            f"{len(chosen) - len(asked):,} of {len(chosen):,} scale-free norms: their whole courses would not fit into "
            f"memory; {len(asked):,} are told, evenly chosen"
        )
        chosen = asked
    names = {
        "layer": np.array(layers(symmetries)),
        "family": np.array(symmetries.family_names),
        "label": np.array(symmetries.labels),
    }
    scales, paths = _nothing(names, chosen)
    if motion is not None and len(chosen):
        limit = noise_limit(symmetries, motion)
        known = learned(books, data, motion, chosen, until, limit)
        withheld += _without_decay_known(motion, known)
        base = float(np.nanmax(known.rate_at)) if len(known.rate_at) else 0.0
        changed_motion, changed = _changed(motion, known, changes)
        future = ahead(data, until, end, changes, base)
        own = {k: v[chosen] for k, v in names.items()}
        surprise = _surprise(books, data, motion, chosen, until, own["family"], limit)
        if surprise is None:
            withheld.append("whether intervals would have held in the past: fewer than 4 records in the first half")
        scales, paths = _scales(changed_motion, changed, future, own, surprise)
    others = decaying(books, data, run, until, changes)
    return Forecast(until, end, scales, others, paths, tuple(withheld))


def _motion(run: Run) -> tuple[Motion | None, str]:
    if "scale" not in run.symmetries.kinds:
        return None, "no weights of this model are scale-free"
    try:
        return motion_of(run.config), ""
    except ValueError as error:
        return None, str(error)


def _surprise(
    books: xr.Dataset,
    data: xr.Dataset,
    motion: Motion,
    chosen: np.ndarray[Any, Any],
    until: int,
    families: Any,
    limit: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any] | None:
    """How far the same forecast from half way was from what came: rms of ln|θ| over each family, per doubling of steps.

    None where too few records lie in the first half.
    """
    steps = data["step"].to_numpy()
    half = int(steps[steps <= until / 2].max(initial=0))
    try:
        known = learned(books, data, motion, chosen, half, limit)
    except ValueError:
        return None
    future = ahead(data, half, until, Changes(), float(np.nanmax(known.rate_at, initial=0.0)))
    row = int(np.searchsorted(steps, until))
    with np.errstate(invalid="ignore", divide="ignore"):
        came = np.log(data["charge"][row].to_numpy()[chosen]) / 2
        away = (np.log(path_of(motion, known, future, 0.0)[-1]) - came) / np.log2(until / half)
    out = np.zeros(len(chosen))
    for family in dict.fromkeys(families):
        mine = families == family
        out[mine] = np.sqrt(np.nanmean(away[mine] ** 2)) if np.isfinite(away[mine]).any() else np.inf
    return out


def _without_decay_known(motion: Motion, known: Learned) -> list[str]:
    if motion.follows_sgd or motion.hyper.weight_decay == 0 or (known.decay > 0).any():
        return []
    return ["equilibria: weight decay passes through the preconditioner here, so what it takes is not told apart"]


def _changed(motion: Motion, known: Learned, changes: Changes) -> tuple[Motion, Learned]:
    """The same noise at unit norm under other numbers: |v|² and the memory's gain as for uncorrelated gradients."""
    old = motion.hyper
    new = replace(old, momentum=old.momentum if changes.momentum is None else changes.momentum)
    new = Sgd(
        old.learning_rate if changes.learning_rate is None else changes.learning_rate,
        old.weight_decay if changes.weight_decay is None else changes.weight_decay,
        new.momentum,
        old.dampening,
        old.nesterov,
        old.decoupled,
    )
    then = replace(motion, hyper=new, gain=None if motion.gain is None else memory_gain(new))
    decay = known.decay * then.decay_share / motion.decay_share
    if changes.weight_decay is not None:
        decay = decay * (new.weight_decay / old.weight_decay) if old.weight_decay else decay * 0 + 2 * new.weight_decay
    times, gain = 1.0, known.gain
    if changes.momentum is not None:
        memory = memory_gain(new) / memory_gain(old)
        times = strength_of_noise(1.0, new) / strength_of_noise(1.0, old) if motion.follows_sgd else 1 / memory
        gain = gain * memory
    limit = None if known.limit is None else known.limit * times
    return then, replace(known, decay=decay, strength=known.strength * times, gain=gain, limit=limit)


def _scales(
    motion: Motion,
    known: Learned,
    future: Ahead,
    names: dict[str, np.ndarray[Any, Any]],
    surprise: np.ndarray[Any, Any] | None,
) -> tuple[pd.DataFrame, xr.Dataset]:
    import pandas as pd
    import xarray as xr

    bands = bands_of(motion, known, future, surprise)
    η = known.rate_at * future.factor[-1]
    growth = known.at(future.steps[-1:].astype(float), factor=future.factor[-1:])[0]
    rate = known.decay * η * future.decay_share[-1]
    settled = settled_norm(rate, η**2 * growth, motion.response)
    width = WIDTH * known.spread / (4 if motion.response == "gradient" else 2)
    width = width if surprise is None else np.hypot(width, WIDTH * surprise)
    settled = np.where(growth > 0, settled, np.nan)
    now = np.sqrt(known.squared)
    final = bands["norm"][-1]
    table: dict[str, Any] = dict(names)
    turning = rotation(motion.response, known.strength * known.rate_at**2, known.squared)
    last_strength = growth / known.gain
    with np.errstate(divide="ignore", invalid="ignore"):
        table |= {
            "norm": now,
            "norm_at_end": final,
            "low": bands["low"][-1],
            "high": bands["high"][-1],
            "equilibrium_norm": settled,
            "equilibrium_low": settled * np.exp(-width),
            "equilibrium_high": settled * np.exp(width),
            "steps_to_equilibrium": steps_until(final**2, settled**2, rate, motion.response)
            + (future.steps[-1] - known.step),
            "rotation": turning,
            "rotation_at_end": rotation(motion.response, last_strength * η**2, final**2),
            "equilibrium_rotation": np.where(growth == 0, np.nan, np.sqrt(rate / known.gain)),
            "effective_learning_rate": motion.effective_rate(known.rate_at, now**2),
            "effective_learning_rate_at_end": motion.effective_rate(η, final**2),
        }
    near = (np.abs(now / settled - 1) < _NEAR) & np.isfinite(settled)
    grows = ~(rate > 0)
    table["regime"] = np.where(grows, "no decay: only grows", np.where(near, "in equilibrium", "on the way"))
    idle = growth == 0  # dead units: what moves them is decay
    table["regime"] = np.where(
        idle, np.where(grows, "no gradient: stands still", "no gradient: only decays"), table["regime"]
    )
    # What is there already needs no time.
    table["steps_to_equilibrium"] = np.where(
        near, 0.0, np.where(grows, np.inf, _first_near(bands["norm"], settled, future, known.step, table))
    )
    flat = ("step", "charge")
    coordinates: dict[str, Any] = {name: ("charge", values) for name, values in names.items()}
    paths = xr.Dataset(
        {name: (flat, values) for name, values in bands.items()}, coords={"step": future.steps, **coordinates}
    )
    return pd.DataFrame(table), paths


def _first_near(
    norm: np.ndarray[Any, Any], settled: np.ndarray[Any, Any], future: Ahead, now: int, table: dict[str, Any]
) -> np.ndarray[Any, Any]:
    """The first step told of at which a norm is near where it settles; beyond the last, from there on alone."""
    near = np.abs(norm / settled - 1) < _NEAR
    found: np.ndarray[Any, Any] = np.where(
        near.any(0), future.steps[near.argmax(0)] - now, table["steps_to_equilibrium"]
    ).astype(float)
    return found


def _nothing(names: dict[str, np.ndarray[Any, Any]], chosen: np.ndarray[Any, Any]) -> tuple[pd.DataFrame, xr.Dataset]:
    import pandas as pd
    import xarray as xr

    empty = {name: (("step", "charge"), np.zeros((0, 0))) for name in BANDS}
    return pd.DataFrame({name: values[:0] for name, values in names.items()}), xr.Dataset(empty)
