"""How far each law is from the measured charge, relative to the size of the charge at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.monitor.reading import errors

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


# Laws of infinitely small steps, or of small ones to the first order: they do not claim to hold at the steps of a
# training, and show by how much it is another.
OF_SMALL_STEPS = frozenset(("modified_loss", "first_order", "gradient_flow"))


def claims_to_hold(law: str) -> bool:
    """Whether a law speaks of the steps that a training takes, as large as they are.

    >>> claims_to_hold("exact"), claims_to_hold("gradient_flow")
    (True, False)
    """
    return law not in OF_SMALL_STEPS


def relative_errors(data: xr.Dataset) -> xr.DataArray:
    """|predicted - measured| / scale, as ``run.errors()`` measures it, dimensions law, step, charge.

    Infinite where a charge was measured as nan or infinite.
    """
    relative, _ = errors.relative_errors(data)
    return data["predicted"].transpose("law", "step", "charge").copy(data=relative)


def largest_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest error over the charges at each step, [step, charge] → [step].

    A law that holds for none of them (nan), and the start where every law is right, give nan: nothing to draw.
    """
    # nanmax would warn of rows that are nan throughout, which are no fault.
    known = np.where(np.isnan(errors), -1.0, errors).max(axis=1, initial=-1.0)
    return np.where(known > 0, known, np.nan)


def typical_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square over the charges for which the law holds, [step, charge] → [step], nan as in largest_error."""
    holds = ~np.isnan(errors)
    squares = np.where(holds, errors, 0.0) ** 2
    mean = squares.sum(axis=1) / np.maximum(holds.sum(axis=1), 1)
    return np.where(mean > 0, np.sqrt(mean), np.nan)
