"""What decay does to translation and rescale charges: how long it takes to halve them, and where noise holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.laws import Hyperparameters, normal_form
from neuralmechanics.laws.equilibrium import memory_gain
from neuralmechanics.monitor.explaining.forecasting.learning import interval_lengths
from neuralmechanics.monitor.explaining.forecasting.settings import Changes
from neuralmechanics.monitor.reading.rows import in_blocks
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuralmechanics.monitor.reading.run import Run


def decaying(books: xr.Dataset, data: xr.Dataset, run: Run, until: int, changes: Changes) -> pd.DataFrame:
    """Translation and rescale families: how long decay takes to halve them, and where their noise holds them."""
    import pandas as pd

    kinds, families = (np.array(getattr(run.symmetries, name)) for name in ("kinds", "family_names"))
    energies = _energies(books, data, until)
    rows = []
    for family in dict.fromkeys(families[np.isin(kinds, ("translation", "rescale"))]):
        mine = np.flatnonzero(families == family)
        rows.append({"family": family, "kind": kinds[mine[0]], **_other(data, run, mine, energies, until, changes)})
    columns = ["family", "kind", "charges", "half_life", "regime", "now", "settles_at"]
    return pd.DataFrame(rows, columns=columns)


def _energies(books: xr.Dataset, data: xr.Dataset, until: int) -> np.ndarray[Any, Any]:
    """|d|² a step of every charge over the intervals that end in the second half of the steps so far."""
    steps = books["step"].to_numpy()
    late = (steps <= until) & (steps > until / 2)
    made = int(interval_lengths(steps, data)[late].sum())
    total = np.zeros(books.sizes["charge"])
    for block in in_blocks(books[["change"]].sel(part="finite_step").isel(step=np.flatnonzero(late))):
        total += block["change"].to_numpy().sum(axis=0)
    return total / max(made, 1)


def _other(
    data: xr.Dataset,
    run: Run,
    mine: np.ndarray[Any, Any],
    energies: np.ndarray[Any, Any],
    until: int,
    changes: Changes,
) -> dict[str, Any]:
    row = int(np.searchsorted(data["step"].to_numpy(), until))
    at = {name: data[name][row].to_numpy()[mine] for name in ("charge", *_HYPER)}
    η, λ, β, α = (float(np.nanmedian(at[name])) if np.isfinite(at[name]).any() else np.nan for name in _HYPER)
    for value, name in ((changes.learning_rate, "η"), (changes.weight_decay, "λ"), (changes.momentum, "β")):
        if value is not None:
            η, λ, β = (value if key == name else old for key, old in (("η", η), ("λ", λ), ("β", β)))
    quadratic = bool(run.symmetries.quadratic.numpy()[mine[0]])
    known: dict[str, Any] = {"charges": len(mine), "now": float(np.median(np.abs(at["charge"])))}
    sgd = run.config["optimizer"]["name"] == "SGD"
    if not np.isfinite([η, λ]).all() or (sgd and not np.isfinite([β, α]).all()):
        return known | {"half_life": np.nan, "regime": "settings differ inside", "settles_at": np.nan}
    apart = not sgd
    if not sgd and λ and not np.nanmax(_decoupled(data, row, mine)):
        return known | {"half_life": np.nan, "regime": "decay through the preconditioner", "settles_at": np.nan}
    p = 2 if quadratic else 1
    rate = p * η * λ * (1.0 if apart else (1 - (α if β else 0.0)) / (1 - β))
    regime = "decay alone"
    if sgd and λ and η:
        regime = normal_form(Hyperparameters(η, λ, β, α), quadratic=quadratic).regime
    settles = np.nan
    if quadratic and rate > 0:
        energy = energies[mine]
        nesterov = bool(np.nanmax(data["nesterov"][row].to_numpy()[mine]))
        gain = memory_gain(Sgd(η, λ, β, α, nesterov=nesterov)) if sgd else 1.0
        settles = float(np.median(np.abs(energy * gain / rate)))
    return known | {"half_life": np.log(2) / rate if rate else np.inf, "regime": regime, "settles_at": settles}


_HYPER = ("learning_rate", "weight_decay", "momentum", "dampening")


def _decoupled(data: xr.Dataset, row: int, mine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether decay is decoupled for these charges at a record."""
    found: np.ndarray[Any, Any] = data["decoupled"][row].to_numpy()[mine]
    return found
