"""The budget of a run: every charge's motion between records, split by cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neuralmechanics.laws import BUDGET_PARTS, MEASURED_PARTS
from neuralmechanics.monitor.store.run_store import merged
from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, SINCE
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.monitor.store.source import RunSource, Segment
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Matrix = np.ndarray[Any, np.dtype[np.float64]]
By = Literal["charge", "family", "layer"]


@dataclass(frozen=True, eq=False)
class _Stretch:
    """The intervals between the records of one segment: their last steps, ΔX, and each cause's part in it."""

    step: np.ndarray[Any, np.dtype[np.int64]]
    measured: Matrix
    parts: dict[str, Matrix]


def budget(source: RunSource, symmetries: Symmetries, by: By = "charge") -> xr.Dataset:
    """change[part, step, charge] and measured[step, charge]: what happened since the record before.

    Σ over `part` is `measured`: `rounding` is what is left of the measured change when every cause, and what
    something else than the optimiser wrote, is taken from it. `by` sums over the charges of a family or layer (the
    module of the family's first parameter). Where a damaged record is left out the parts of its interval are nan.
    ValueError for a run that kept no budget.
    """
    import xarray as xr

    if not source.content["configuration"]["monitor"].get("budget"):
        raise ValueError(f"run {source.path} keeps no budget: it was recorded before there was one; record it anew")
    charges = len(symmetries.labels)
    stretches = list(_stretches(source, charges))
    step = np.concatenate([s.step for s in stretches] or [np.zeros(0, dtype=np.int64)])
    measured = np.concatenate([s.measured for s in stretches] or [np.zeros((0, charges))])
    parts = np.stack(
        [np.concatenate([s.parts[name] for s in stretches] or [np.zeros((0, charges))]) for name in BUDGET_PARTS]
    )
    labels = {"kind": symmetries.kinds, "family": symmetries.family_names, "label": symmetries.labels}
    data = xr.Dataset(
        {"change": (("part", "step", "charge"), parts), "measured": (("step", "charge"), measured)},
        coords={
            "part": np.array(BUDGET_PARTS, dtype=object),
            "step": step,
            "layer": ("charge", np.array(layers(symmetries), dtype=object)),
            **{name: ("charge", np.array(texts, dtype=object)) for name, texts in labels.items()},
        },
    )
    return data if by == "charge" else gathered(data, by)


def layers(symmetries: Symmetries) -> list[str]:
    """The layer of every charge: the module of its family's first parameter."""
    modules = [family.parameters[0].rpartition(".")[0] or family.parameters[0] for family in symmetries.charged]
    return [module for module, f in zip(modules, symmetries.charged, strict=True) for _ in range(f.charges)]


def gathered(data: xr.Dataset, by: str) -> xr.Dataset:
    """The sums over the charges of each kind in a family or layer, in the order of the model."""
    import xarray as xr

    keys = list(zip(data[by].to_numpy(), data["kind"].to_numpy(), strict=True))
    groups = {key: np.array([k == key for k in keys]) for key in dict.fromkeys(keys)}
    names = [str(name) for name in data.data_vars]
    sums = {
        name: (
            (*data[name].dims[:-1], by),
            np.stack([data[name].to_numpy()[..., mine].sum(-1) for mine in groups.values()], axis=-1),
        )
        for name in names
    }
    kinds = (by, np.array([kind for _, kind in groups], dtype=object))
    coordinates = {name: data[name] for name in ("part", "step") if name in data.coords}
    return xr.Dataset(sums, coords={**coordinates, by: np.array([n for n, _ in groups], dtype=object), "kind": kinds})


def totals(data: xr.Dataset) -> pd.DataFrame:
    """One row a charge, family or layer: the measured change of the whole run and each cause's part in it."""
    import pandas as pd

    axis = str(data["measured"].dims[-1])
    name = "label" if axis == "charge" else axis
    columns: dict[str, Any] = {axis: data[name].to_numpy(), "kind": data["kind"].to_numpy()}
    columns["change"] = data["measured"].sum("step").to_numpy()
    change = data["change"].sum("step")
    columns |= {str(part): change.sel(part=part).to_numpy() for part in data["part"].to_numpy()}
    return pd.DataFrame(columns)


def _stretches(source: RunSource, charges: int) -> Iterator[_Stretch]:
    """Segment by segment up to where a later one goes on, the record there included."""
    for number, segment in enumerate(source.segments):
        if not segment.parts:
            continue
        later = [int(s.info["start_step"]) for s in source.segments[number + 1 :] if s.parts]
        yield _stretch(segment, min(later, default=None), charges)


def _stretch(segment: Segment, end: int | None, charges: int) -> _Stretch:
    rows = merged(segment.parts)
    kept = np.ones(len(rows["step"]), dtype=bool) if end is None else rows["step"] <= end
    step, charge = rows["step"][kept].astype(np.int64), rows["charge"][kept]
    begin, start = int(segment.info["start_step"]), segment.start.get("charge")
    if start is not None and len(start) == charges and begin < step[0]:
        # The record of the start is lost; what it held is written beside the segment.
        step, charge = np.r_[begin, step], np.concatenate([start[None], charge])
    measured = np.diff(charge, axis=0)
    count = len(measured)
    parts = {name: _filled(rows, BUDGET_PREFIX + name, charges)[kept][-count:] for name in MEASURED_PARTS}
    parts["outside"] = _filled(rows, "outside", charges)[kept][-count:]
    if not count:
        parts = {name: values[:0] for name, values in parts.items()}
    elif SINCE in rows:
        # Between these two a record is lost, and with it what is known of the causes.
        lost = rows[SINCE][kept][-count:] != step[:-1]
        parts = {name: np.where(lost[:, None], np.nan, values) for name, values in parts.items()}
    parts["rounding"] = measured - sum(parts.values())
    return _Stretch(step[1:], measured, parts)


def _filled(rows: Arrays, name: str, charges: int) -> Matrix:
    """The rows of an array, 0 where nothing was written: nothing happened there."""
    count = len(rows["step"])
    if name not in rows:
        return np.zeros((count, charges))
    wide: Matrix = np.broadcast_to(rows[name], (count, charges))
    return np.where(np.isnan(wide), 0.0, wide)


def rows_of(table: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """The table as plain rows, numbers that are not finite as null."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
