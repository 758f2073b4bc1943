"""How far each law is from what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("family", "kind", "law", "charges", "max_error", "rms_error")
EVERY_FAMILY = "all"


def error_table(data: xr.Dataset) -> pd.DataFrame:
    """Largest and root-mean-square relative error per family and law, then per kind and law.

    Taken over all charges and all records after the first, where a law has nothing to predict yet. `charges` counts
    those that the law speaks of at any record; a law that speaks of none in a family has no row there.
    """
    import pandas as pd

    measured = data["charge"].to_numpy()[1:]
    scale = data["scale"].to_numpy()
    kinds, families = data["kind"].to_numpy(), data["family"].to_numpy()
    groups = [(family, kind, (families == family) & (kinds == kind)) for family, kind in _pairs(families, kinds)]
    groups += [(EVERY_FAMILY, kind, kinds == kind) for kind in dict.fromkeys(kinds)]
    relative = np.abs(data["predicted"].to_numpy()[:, 1:] - measured) / scale
    rows = []
    for family, kind, chosen in groups:
        for law, errors in zip(data["law"].to_numpy(), relative, strict=True):
            if (row := _summary(errors[:, chosen])) is not None:
                rows.append((family, kind, law, *row))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pairs(families: np.ndarray[Any, Any], kinds: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(families, kinds, strict=True)))


def _summary(errors: np.ndarray[Any, Any]) -> tuple[int, float, float] | None:
    """Charges spoken of, maximum, root mean square. A law that diverged to infinity keeps its infinity."""
    spoken = ~np.isnan(errors)
    if not spoken.any():
        return None
    values = errors[spoken]
    largest = float(values.max())
    # Scaled first, so that squares of a law that ran away do not overflow.
    rms = largest * float(np.sqrt(np.mean((values / largest) ** 2))) if 0 < largest < np.inf else largest
    return int(spoken.any(axis=0).sum()), largest, rms
