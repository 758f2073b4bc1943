"""How far each law is from the measured charge, relative to the size of the charge at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


def scale(data: xr.Dataset) -> NDArray[np.float64]:
    """The size at the start that errors of each charge are measured in, shape [charge].

    The run's own (coordinate or variable ``scale``) where it has one, else |charge(0)|, and where that is zero the
    root mean square of its family, and 1 for a family that starts at zero altogether.
    """
    if "scale" in data.variables:
        return np.asarray(data["scale"].values, dtype=np.float64)
    initial: NDArray[np.float64] = np.abs(data["charge"].values[0].astype(np.float64))
    family = data["family"].values.astype(str)
    for name in np.unique(family):
        mine = family == name
        typical = float(np.sqrt(np.mean(initial[mine] ** 2))) or 1.0
        initial[mine] = np.where(initial[mine] > 0, initial[mine], typical)
    return initial


def relative_errors(data: xr.Dataset) -> xr.DataArray:
    """|predicted - measured| / size at the start, dimensions law, step, charge."""
    difference: xr.DataArray = abs(data["predicted"] - data["charge"])
    relative: xr.DataArray = difference.transpose("law", "step", "charge") / scale(data)
    return relative


def largest_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest error over the charges at each step, [step, charge] → [step].

    A law that holds for none of them (nan), and the start where every law is right, give nan: nothing to draw.
    """
    known = np.where(np.isnan(errors), -1.0, errors).max(axis=1, initial=-1.0)
    return np.where(known > 0, known, np.nan)


def typical_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square over the charges for which the law holds, [step, charge] → [step], nan as in largest_error."""
    holds = ~np.isnan(errors)
    squares = np.where(holds, errors, 0.0) ** 2
    mean = squares.sum(axis=1) / np.maximum(holds.sum(axis=1), 1)
    return np.where(mean > 0, np.sqrt(mean), np.nan)
