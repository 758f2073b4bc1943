"""How far each law is from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("family", "kind", "law", "charges", "max_error", "rms_error", "nonfinite_step")
By = Literal["family", "kind"]

Errors = np.ndarray[Any, np.dtype[np.float64]]


def error_table(data: xr.Dataset, rotations: xr.Dataset | None = None, by: By = "family") -> pd.DataFrame:
    """Largest and root-mean-square relative error per family and law, or per kind and law.

    Taken over all charges and all records after the first, where a law has nothing to predict yet. `charges` counts
    those that the law speaks of at any record; a law that speaks of none in a family has no row there.
    `nonfinite_step` is the first recorded step at which a charge was measured as nan or infinite, missing where all
    were finite: there every law that spoke until then is wrong by an infinite amount.
    """
    import pandas as pd

    kinds, families = data["kind"].to_numpy(), data["family"].to_numpy()
    if by not in get_args(By):
        raise ValueError(f"by={by!r}; errors are told by family or by kind")
    if by == "family":
        groups = [(family, kind, (families == family) & (kinds == kind)) for family, kind in _pairs(families, kinds)]
    else:
        groups = [("", kind, kinds == kind) for kind in dict.fromkeys(kinds)]
    relative, spoken = relative_errors(data)
    rows: list[tuple[str, str, str, int, float, float, int | None]] = []
    for family, kind, chosen in groups:
        for law, errors, known in zip(data["law"].to_numpy(), relative, spoken, strict=True):
            if (row := _summary(errors[1:, chosen], known[1:, chosen])) is not None:
                rows.append((family, kind, law, *row, nonfinite_step(data, chosen)))
    rows += [] if rotations is None else list(_rotation_rows(rotations, by))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table if by == "family" else table.drop(columns="family")
    return table.astype({"nonfinite_step": "Int64"})


def _rotation_rows(rotations: xr.Dataset, by: By) -> Iterator[tuple[str, str, str, int, float, float, None]]:
    """|J - β^k J_0| / (|v||θ|) for each family that turns, or for all of them."""
    measured, predicted, size = (rotations[name].to_numpy() for name in ("measured", "predicted", "size"))
    spoken = ~np.isnan(predicted) & (size > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.where(spoken, np.abs(predicted - measured) / size, np.nan)
    families = rotations["family"].to_numpy()
    groups = [(str(name), families == name) for name in dict.fromkeys(families)]
    for name, chosen in groups if by == "family" else [("", np.ones(len(families), dtype=bool))]:
        if (row := _summary(errors[1:, chosen], spoken[1:, chosen])) is not None:
            yield (name, "rotation", "rotation", *row, None)


def relative_errors(data: xr.Dataset) -> tuple[Errors, np.ndarray[Any, np.dtype[np.bool_]]]:
    """|predicted - measured| / scale and where a law speaks, both [law, step, charge].

    A charge measured as nan or infinite has an infinite error, under every law that spoke of it at the last finite
    measurement; nan where a law does not speak, or where the scale is not known.
    """
    charge = data["charge"].transpose("step", "charge").to_numpy()
    predicted = data["predicted"].transpose("law", "step", "charge").to_numpy()
    lost = ~np.isfinite(charge)
    spoken = ~np.isnan(predicted)
    spoken |= lost & _carried(spoken, lost)
    with np.errstate(invalid="ignore", over="ignore"):
        relative = np.abs(predicted - charge) / data["scale"].to_numpy()
    return np.where(spoken & lost, np.inf, np.where(spoken, relative, np.nan)), spoken


def nonfinite_step(data: xr.Dataset, chosen: np.ndarray[Any, Any] | None = None) -> int | None:
    """The first recorded step at which one of the chosen charges is not finite; None where all are at every step."""
    charge = data["charge"].transpose("step", "charge").to_numpy()
    rows = np.flatnonzero(~np.isfinite(charge if chosen is None else charge[:, chosen]).all(axis=1))
    return int(data["step"].to_numpy()[rows[0]]) if len(rows) else None


def _carried(spoken: np.ndarray[Any, Any], lost: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether a law spoke at the last record before each at which the charge was finite; true where there is none."""
    rows = np.arange(lost.shape[0])[:, None]
    last = np.maximum.accumulate(np.where(lost, -1, rows), axis=0)
    carried = np.take_along_axis(spoken, np.broadcast_to(np.maximum(last, 0), spoken.shape), axis=1)
    return carried | (last < 0)


def _pairs(families: np.ndarray[Any, Any], kinds: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(families, kinds, strict=True)))


def _summary(errors: Errors, spoken: np.ndarray[Any, Any]) -> tuple[int, float, float] | None:
    """Charges spoken of, maximum, root mean square. A law that diverged to infinity keeps its infinity."""
    if not spoken.any():
        return None
    values = errors[spoken]
    largest = float(values.max())
    # Scaled first, so that squares of a law that ran away do not overflow.
    rms = largest * float(np.sqrt(np.mean((values / largest) ** 2))) if 0 < largest < np.inf else largest
    return int(spoken.any(axis=0).sum()), largest, rms
