"""What the pictures read: a run's data set, its symmetries, its configuration, its table of errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from neuralmechanics.experiments.config import SUM
from neuralmechanics.monitor.reading.rows import in_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

# The names under which a random subset of raw weights may be stored, [step, weight].
PARAMETER_VARIABLES = ("weights-subset", "parameter")
# The coordinate beside it that names the parameter of each weight.
OWNERS = "weights-subset/parameter"


class RunLike(Protocol):
    """The side of a run that is drawn (`neuralmechanics.monitor` makes real ones)."""

    @property
    def data(self) -> xr.Dataset: ...
    @property
    def symmetries(self) -> Any: ...
    @property
    def config(self) -> Any: ...
    @property
    def warnings(self) -> Sequence[Any]: ...
    def errors(self, by: Literal["family", "kind"] = "family") -> pd.DataFrame: ...


def steps(data: xr.Dataset) -> NDArray[np.float64]:
    """The recorded steps."""
    if data.sizes.get("step", 0) == 0:
        raise ValueError("the run holds no record yet: train at least one step, then draw it")
    return np.asarray(data["step"].values, dtype=np.float64)


def laws(data: xr.Dataset) -> list[str]:
    """Names of the laws that the run predicted with; one that held for no charge at any record is left out."""
    if "predicted" not in data:
        return []
    spoken = np.zeros(data.sizes["law"], dtype=bool)
    for block in in_blocks(data):
        if spoken.all():
            break
        spoken |= ~np.isnan(block["predicted"].transpose("law", "step", "charge").values).all(axis=(1, 2))
    return [str(law) for law, any_spoken in zip(data["law"].values, spoken, strict=True) if any_spoken]


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
    """The family of a kind that shows most: the largest charges at the start, added up.

    A bias before a norm starts near zero and stays there; the last layer's column sums do not.
    """
    # The sum over a layer is the largest, and tells least.
    names = [name for name in families(data, kind) if not name.endswith(SUM)]
    if not names:
        raise ValueError(f"the run has no {kind} charges; it has: {', '.join(kinds(data)) or 'none'}")
    return max(names, key=lambda name: float(np.abs(of_family(data, name)["charge"].values[0]).sum()))


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


@dataclass(frozen=True)
class RawWeights:
    """A random subset of raw weights over time: steps, one name a weight, values [step, weight].

    ``parameters`` names the parameter that each weight is of; it is empty where the record does not say.
    """

    step: NDArray[np.float64]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    parameters: tuple[str, ...] = ()

    @property
    def moved(self) -> NDArray[np.float64]:
        """How far each weight has come from its start: weights, biases and gains of a norm on one axis."""
        return self.values - self.values[:1]


def raw_weights(run: RunLike) -> RawWeights | None:
    """The recorded raw weights, from the run's data or the metrics beside it; None where none were recorded."""
    for data in (run.data, metrics_of(run)):
        for name in PARAMETER_VARIABLES if data is not None else ():
            if name in data and data[name].dims[0] == "step":
                values = data[name].values.astype(np.float64).reshape(data.sizes["step"], -1)
                other = data[name].dims[-1]
                known = data[other].values if other in data.coords else range(values.shape[1])
                owners = tuple(map(str, data[OWNERS].values)) if OWNERS in data.coords else ()
                return RawWeights(steps(data), tuple(f"weight {label}" for label in known), values, owners)
    return None


def configuration(run: RunLike) -> Mapping[str, Any]:
    """How the run was trained: the training's own configuration beside it, else what the monitor saw."""
    folder = _folder(run)
    if folder is not None:
        from neuralmechanics.experiments.training.runfolder import CONFIG, read_json

        if (folder / CONFIG).is_file():
            return read_json(folder / CONFIG)
    seen: Mapping[str, Any] = run.config
    return seen


def _folder(run: RunLike) -> Path | None:
    path = getattr(run, "path", None)
    return Path(path) if path else None


def metrics_of(run: RunLike) -> Any:
    """What was measured beside the charges; None where nothing was."""
    path = _folder(run)
    if path is None or not any((path / "metrics").glob("*.safetensors")):
        return None
    from neuralmechanics.experiments.measuring.metrics import open_metrics

    return open_metrics(path)


def scalars(data: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """What has one value a step: logged numbers, and hyperparameters as far as they are the same for all charges."""
    found = {}
    for name, array in data.data_vars.items():
        # Charges and residuals have a value a charge by nature, even where there is a single one.
        if not np.issubdtype(array.dtype, np.number) or str(name) in ("charge", "residual"):
            continue
        values = array.values.astype(np.float64)
        if array.dims == ("step", "charge") and values.shape[1] and _same(values):
            values = values[:, 0]
        if values.shape == (data.sizes["step"],) and np.isfinite(values).any():
            found[str(name)] = values
    return found


def _same(values: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(values, np.broadcast_to(values[:, :1], values.shape), equal_nan=True))
