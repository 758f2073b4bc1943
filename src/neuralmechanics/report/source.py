"""What the pictures read: a run's data set, its symmetries, its configuration, its table of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

# The names under which a run may store its random subset of raw weights, [step, …].
PARAMETER_VARIABLES = ("parameter", "weights_subset", "weights-subset", "parameters")


class RunLike(Protocol):
    """The side of a run that is drawn (`neuralmechanics.monitor` makes real ones)."""

    @property
    def data(self) -> xr.Dataset: ...
    @property
    def symmetries(self) -> Any: ...
    @property
    def config(self) -> Any: ...
    def errors(self) -> pd.DataFrame: ...


def steps(data: xr.Dataset) -> NDArray[np.float64]:
    """The recorded steps."""
    if data.sizes.get("step", 0) == 0:
        raise ValueError("the run holds no record yet: train at least one step, then draw it")
    return np.asarray(data["step"].values, dtype=np.float64)


def laws(data: xr.Dataset) -> list[str]:
    """Names of the laws that the run predicted with."""
    return [str(law) for law in data["law"].values] if "predicted" in data else []


def families(data: xr.Dataset, kind: str | None = None) -> list[str]:
    """Names of the families that have charges, in model order, of one kind if given."""
    names = [str(name) for name in data["family"].values]
    kinds = [str(k) for k in data["kind"].values]
    return list(dict.fromkeys(n for n, k in zip(names, kinds, strict=True) if kind in (None, k)))


def kinds(data: xr.Dataset) -> list[str]:
    """Kinds of symmetry that have charges, in the field's order."""
    present = {str(kind) for kind in data["kind"].values}
    usual = ("translation", "scale", "rescale", "linear")
    return [kind for kind in usual if kind in present] + sorted(present.difference(usual))


def of_family(data: xr.Dataset, family: str) -> xr.Dataset:
    """The charges of one family."""
    return data.isel(charge=np.flatnonzero(data["family"].values.astype(str) == family))


def telling_family(data: xr.Dataset, kind: str) -> str:
    """The family of a kind that shows most: the largest charges at the start.

    A bias before a norm starts at zero and stays there; the last layer's column sums do not.
    """
    names = families(data, kind)
    if not names:
        raise ValueError(f"the run has no {kind} charges; it has: {', '.join(kinds(data)) or 'none'}")
    return max(names, key=lambda name: float(np.abs(of_family(data, name)["charge"].values[0]).mean()))


def default_family(data: xr.Dataset) -> str:
    """The family that the paper's Fig. 1 would show: norms if there are any, else differences, else sums."""
    present = kinds(data)
    preferred = [kind for kind in ("scale", "rescale", "translation") if kind in present] + present
    if not preferred:
        raise ValueError("the run follows no charge: its model has no symmetry that has one")
    return telling_family(data, preferred[0])


def spread(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Positions of ``count`` values at evenly spread quantiles, extremes included."""
    order = np.argsort(values, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return np.asarray(order[picks], dtype=np.intp)


def thinned(length: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` positions in a record of ``length``, evenly spaced, first and last included."""
    if length <= most:
        return np.arange(length)
    return np.unique(np.linspace(0, length - 1, most).round().astype(np.intp))


def raw_parameters(data: xr.Dataset) -> tuple[list[str], NDArray[np.float64]] | None:
    """Names and values [step, weight] of the recorded raw weights, or None where none were recorded."""
    columns: list[NDArray[np.float64]] = []
    names: list[str] = []
    for variable, array in data.data_vars.items():
        if not str(variable).startswith(PARAMETER_VARIABLES) or "step" not in array.dims:
            continue
        values = array.transpose("step", ...).values.astype(np.float64).reshape(array.sizes["step"], -1)
        columns.append(values)
        names += _weight_names(array, str(variable), values.shape[1])
    return (names, np.concatenate(columns, axis=1)) if columns else None


def _weight_names(array: xr.DataArray, variable: str, count: int) -> Sequence[str]:
    other = [dim for dim in array.dims if dim != "step"]
    if len(other) == 1 and other[0] in array.coords:
        return [str(name) for name in array[other[0]].values]
    return [f"{variable}[{k}]" for k in range(count)]


def scalars(data: xr.Dataset) -> list[str]:
    """Numeric variables with one value a step: losses, accuracies, hyperparameters."""
    return [
        str(name)
        for name, array in data.data_vars.items()
        if array.dims == ("step",) and np.issubdtype(array.dtype, np.number) and np.isfinite(array.values).any()
    ]
