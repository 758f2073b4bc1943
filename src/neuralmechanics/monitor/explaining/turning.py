"""How far scale-free weights turn in a step, and the learning rate that their directions see, over a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.monitor.explaining.budget import layers
from neuralmechanics.monitor.explaining.forecasting.optimiser import motion_of

if TYPE_CHECKING:
    import xarray as xr

    from neuralmechanics.monitor.reading.run import Run


def turning(run: Run) -> xr.Dataset:
    """rotation[step, charge] and effective_learning_rate[step, charge] of every scale charge, record by record.

    `rotation` is √(|d|²/n) of a step in the interval that ends at `step`: the root mean square of the updates' lengths
    over the norm in its middle. `effective_learning_rate` is h/((1-β)n), η/|θ| or η, as the optimiser's steps depend
    on the norm; nan for an optimiser of which that is not known, and said in the attribute `withheld`.
    ValueError for a run that keeps no budget.
    """
    import xarray as xr

    books, data = run.budget(), run.data
    scale = np.flatnonzero(books["kind"].to_numpy() == "scale")
    steps, ends = data["step"].to_numpy(), books["step"].to_numpy()
    after = np.searchsorted(steps, ends)
    lengths = (ends - steps[np.maximum(after - 1, 0)])[:, None]
    n = data["charge"].to_numpy()[:, scale]
    middle = (n[np.maximum(after - 1, 0)] + n[after]) / 2
    energy = books["change"].sel(part="finite_step").to_numpy()[:, scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        rotation = np.sqrt(np.maximum(energy, 0.0) / lengths / middle)
    rate = data["learning_rate"].to_numpy()[after][:, scale]
    try:
        effective, withheld = motion_of(run.config).effective_rate(rate, n[after]), ""
    except ValueError as error:
        effective, withheld = np.full_like(rotation, np.nan), str(error)
    flat = ("step", "charge")
    symmetries = run.symmetries
    named = {"layer": layers(symmetries), "family": symmetries.family_names, "label": symmetries.labels}
    coordinates = {name: ("charge", np.array(texts, dtype=object)[scale]) for name, texts in named.items()}
    return xr.Dataset(
        {"rotation": (flat, rotation), "effective_learning_rate": (flat, effective)},
        coords={"step": ends, **coordinates},
        attrs={"withheld": withheld},
    )
