"""How far scale-free weights turn in a step, and the learning rate that their directions see, over a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.monitor.explaining.budget import layers
from neuralmechanics.monitor.explaining.forecasting.optimiser import motion_of
from neuralmechanics.monitor.reading.rows import Array, Columns, Index

if TYPE_CHECKING:
    import xarray as xr

    from neuralmechanics.monitor.reading.run import Run


def turning(run: Run) -> xr.Dataset:
    """rotation[step, charge] and effective_learning_rate[step, charge] of every scale charge, record by record.

    `rotation` is √(|d|²/n) of a step in the interval that ends at `step`: the root mean square of the updates' lengths
    over the norm in its middle. `effective_learning_rate` is h/((1-β)n), η/|θ| or η, as the optimiser's steps depend
    on the norm; nan for an optimiser of which that is not known, and said in the attribute `withheld`.
    Both are read when they are asked for. ValueError for a run that keeps no budget.
    """
    import xarray as xr

    from neuralmechanics.monitor.reading.lazy import lazy_variable

    books, data = run.budget(), run.data
    scale = np.flatnonzero(books["kind"].to_numpy() == "scale")
    steps, ends = data["step"].to_numpy(), books["step"].to_numpy()
    after = np.searchsorted(steps, ends)
    lengths = ends - steps[np.maximum(after - 1, 0)]
    try:
        motion, withheld = motion_of(run.config), ""
    except ValueError as error:
        motion, withheld = None, str(error)

    def read(name: str, rows: Index, columns: Index) -> Array:
        found: Array = data[name].isel(step=rows, charge=columns).to_numpy()
        return found

    def rotation(layer: int, wanted: Index, columns: Columns) -> Array:
        mine, rows = scale[columns], after[wanted]
        middle = (read("charge", np.maximum(rows - 1, 0), mine) + read("charge", rows, mine)) / 2
        energy = books["change"].sel(part="finite_step").isel(step=wanted, charge=mine).to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            turned: Array = np.sqrt(np.maximum(energy, 0.0) / lengths[wanted][:, None] / middle)
        return turned

    def effective(layer: int, wanted: Index, columns: Columns) -> Array:
        mine, rows = scale[columns], after[wanted]
        if motion is None:
            return np.full((len(rows), len(mine)), np.nan)
        return motion.effective_rate(read("learning_rate", rows, mine), read("charge", rows, mine))

    dims, shape = ("step", "charge"), (len(ends), len(scale))
    symmetries = run.symmetries
    named = {"layer": layers(symmetries), "family": symmetries.family_names, "label": symmetries.labels}
    coordinates = {name: ("charge", np.array(texts, dtype=object)[scale]) for name, texts in named.items()}
    return xr.Dataset(
        {
            "rotation": lazy_variable(dims, shape, rotation),
            "effective_learning_rate": lazy_variable(dims, shape, effective),
        },
        coords={"step": ends, **coordinates},
        attrs={"withheld": withheld},
    )
