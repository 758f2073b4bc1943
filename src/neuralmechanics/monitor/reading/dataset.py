"""A run as one xarray dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.reading.scale import start_scale
from neuralmechanics.monitor.store.run_store import merged, stacked
from neuralmechanics.monitor.store.shards.compact import LAW_PREFIX
from neuralmechanics.monitor.store.shards.record import HYPER_PREFIX, HYPERPARAMETERS, SCALAR_PREFIX, shown_name
from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, DRIVE_PREFIX, ROTATION_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays, CorruptShardError
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import xarray as xr


def dataset(source: RunSource, symmetries: Symmetries) -> xr.Dataset:
    """All records in the order of their steps; where segments overlap, what was recorded last."""
    import xarray as xr

    charges = len(symmetries.labels)
    _require_width(source, charges)
    parts = list(current_parts(source, without=(BUDGET_PREFIX, DRIVE_PREFIX)))
    scale = start_scale(source, symmetries)
    steps = _column(parts, "step", dtype=np.int64)
    flat = ("step", "charge")
    configured = source.content["configuration"]["monitor"]["laws"]
    laws = sorted(_names(parts, LAW_PREFIX), key=lambda n: configured.index(n) if n in configured else len(configured))
    predicted = [_matrix(parts, LAW_PREFIX + law, charges) for law in laws]
    variables: dict[str, Any] = {
        "charge": (flat, _matrix(parts, "charge", charges)),
        "predicted": (("law", *flat), np.stack(predicted) if laws else np.zeros((0, len(steps), charges))),
        "residual": (flat, _matrix(parts, "residual", charges)),
        "outside": (flat, _matrix(parts, "outside", charges, missing=0.0)),
        "scale": ("charge", scale.values),
    }
    variables |= {name: (flat, _matrix(parts, HYPER_PREFIX + name, charges)) for name in HYPERPARAMETERS}
    variables |= {shown: ("step", _column(parts, SCALAR_PREFIX + n)) for n, shown in scalar_names(source).items()}
    return xr.Dataset(
        variables,
        coords={
            "law": np.array(laws, dtype=object),
            "step": steps,
            "time": ("step", _column(parts, "time")),
            "segment": ("step", _column(parts, "segment", dtype=np.int64)),
            "kind": ("charge", np.array(symmetries.kinds, dtype=object)),
            "family": ("charge", np.array(symmetries.family_names, dtype=object)),
            "label": ("charge", np.array(symmetries.labels, dtype=object)),
        },
        attrs={
            "configuration": json.dumps(source.content["configuration"]),
            "origin": json.dumps(source.content["origin"]),
            "damage": json.dumps(source.damage),
            "scale": scale.origin,
        },
    )


def angular_momentum(source: RunSource) -> xr.Dataset:
    """The rotations of a run, record by record. ValueError where none was followed."""
    import xarray as xr

    families = source.content["configuration"]["monitor"].get("rotations")
    if not families:
        raise ValueError(f"run {source.path} followed no rotations: give the monitor laws=['rotation'] among others")
    parts, names = list(current_parts(source)), [name for name, count in families for _ in range(int(count))]
    flat = ("step", "rotation")
    rows = {name: _matrix(parts, ROTATION_PREFIX + name, len(names)) for name in ("measured", "predicted", "size")}
    return xr.Dataset(
        {name: (flat, values) for name, values in rows.items()},
        coords={
            "step": _column(parts, "step", dtype=np.int64),
            "family": ("rotation", np.array(names, dtype=object)),
        },
    )


def scalar_names(source: RunSource) -> dict[str, str]:
    """Each logged scalar and its name in the dataset; ValueError where two would have the same."""
    names = _names([part for segment in source.segments for part in segment.parts], SCALAR_PREFIX)
    shown = {name: shown_name(name) for name in names}
    if twice := [name for name in names if shown_name(name) != name and shown_name(name) in names]:
        raise ValueError(
            f"run {source.path} logs both {twice[0]!r} and {shown[twice[0]]!r}, which have one name in its data"
        )
    return shown


def current_parts(source: RunSource, without: tuple[str, ...] = ()) -> Iterator[Arrays]:
    """The shards with only those rows that no later segment has replaced, each row with its segment.

    Arrays whose names begin as one of `without` are left out.
    """
    for number, (segment, end) in enumerate(zip(source.segments, _replaced_from(source), strict=True)):
        drives_end = np.inf if end is None else end
        if not segment.parts:
            continue
        part = merged([{n: a for n, a in each.items() if not n.startswith(without)} for each in segment.parts])
        # A later segment begins with a record of its own at its first step.
        keep = np.ones(len(part["step"]), dtype=bool) if end is None else part["step"] < end
        used = np.ones(0, dtype=bool) if "drives/step" not in part else part["drives/step"] <= drives_end
        rows = {
            name: array[used if name.startswith("drives/") else keep]
            for name, array in part.items()
            if not name.startswith("state/")
        }
        yield rows | {"segment": np.full(int(keep.sum()), number, dtype=np.int64)}


def _replaced_from(source: RunSource) -> list[int | None]:
    """For each segment the step from which a later one replaces its records; None where none does."""
    ends: list[int | None] = []
    end: int | None = None
    for segment in reversed(source.segments):
        ends.append(end)
        # A segment that was killed before its first record replaces nothing.
        if segment.parts:
            start = int(segment.info["start_step"])
            end = start if end is None else min(end, start)
    return ends[::-1]


def _require_width(source: RunSource, charges: int) -> None:
    for segment in source.segments:
        for part in segment.parts:
            if part["charge"].shape[1] != charges:
                raise CorruptShardError(
                    f"run {source.path}: its records hold {part['charge'].shape[1]} charges, its symmetries {charges}"
                )


def _names(parts: list[Arrays], prefix: str) -> list[str]:
    return list(dict.fromkeys(n.removeprefix(prefix) for part in parts for n in part if n.startswith(prefix)))


def _matrix(parts: list[Arrays], name: str, charges: int, missing: float = np.nan) -> np.ndarray[Any, Any]:
    """One row a record. What is one number for all charges, or was never recorded, takes no memory: not to be written.

    `missing`: what stands where nothing was recorded.
    """
    if not any(name in part for part in parts):
        return np.broadcast_to(np.float64(missing), (sum(len(p["step"]) for p in parts), charges))
    rows = stacked(parts, name)
    rows = rows if np.isnan(missing) else np.where(np.isnan(rows), missing, rows)
    return np.broadcast_to(rows, (len(rows), charges)) if rows.shape[1] != charges else rows


def _column(parts: list[Arrays], name: str, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    return stacked(parts, name).astype(dtype) if parts else np.zeros(0, dtype=dtype)
