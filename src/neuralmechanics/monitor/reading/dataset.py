"""A run as one xarray dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.reading.rows import Array, Columns, Index, Rows
from neuralmechanics.monitor.reading.scale import start_scale
from neuralmechanics.monitor.store.merging import merged
from neuralmechanics.monitor.store.shards.compact import LAW_PREFIX
from neuralmechanics.monitor.store.shards.part import Part
from neuralmechanics.monitor.store.shards.record import HYPER_PREFIX, HYPERPARAMETERS, SCALAR_PREFIX, shown_name
from neuralmechanics.monitor.store.shards.schema import DRIVE_PREFIX, ROTATION_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays, CorruptShardError
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import xarray as xr


def dataset(source: RunSource, symmetries: Symmetries) -> xr.Dataset:
    """All records in the order of their steps; where segments overlap, what was recorded last.

    What has a value a charge is read when it is asked for.
    """
    import xarray as xr

    charges = len(symmetries.labels)
    _require_width(source, charges)
    rows, segment = current_rows(source)
    scale = start_scale(source, symmetries)
    configured = source.content["configuration"]["monitor"]["laws"]
    known = _names(rows.parts, LAW_PREFIX)
    laws = sorted(known, key=lambda n: configured.index(n) if n in configured else len(configured))
    variables: dict[str, Any] = {
        "charge": _matrix(rows, ["charge"], charges),
        "predicted": _matrix(rows, [LAW_PREFIX + law for law in laws], charges, layer="law"),
        "residual": _matrix(rows, ["residual"], charges),
        "outside": _matrix(rows, ["outside"], charges, missing=0.0),
        "scale": ("charge", scale.values),
    }
    variables |= {name: _matrix(rows, [HYPER_PREFIX + name], charges) for name in HYPERPARAMETERS}
    variables |= {shown: ("step", rows.column(SCALAR_PREFIX + n)) for n, shown in scalar_names(source).items()}
    found = xr.Dataset(
        variables,
        coords={
            "law": np.array(laws, dtype=object),
            "step": rows.column("step", np.int64),
            "time": ("step", rows.column("time")),
            "segment": ("step", segment),
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
    # What has the name of its dimension counts as a coordinate, which means over groups would leave out.
    return found.reset_coords("charge")


def angular_momentum(source: RunSource) -> xr.Dataset:
    """The rotations of a run, record by record. ValueError where none was followed."""
    import xarray as xr

    families = source.content["configuration"]["monitor"].get("rotations")
    if not families:
        raise ValueError(f"run {source.path} followed no rotations: give the monitor laws=['rotation'] among others")
    names = [name for name, count in families for _ in range(int(count))]
    rows, _ = current_rows(source)
    every = np.arange(rows.count)
    read = {
        n: rows.read(ROTATION_PREFIX + n, every, slice(None), len(names)) for n in ("measured", "predicted", "size")
    }
    return xr.Dataset(
        {name: (("step", "rotation"), values) for name, values in read.items()},
        coords={"step": rows.column("step", np.int64), "family": ("rotation", np.array(names, dtype=object))},
    )


def scalar_names(source: RunSource) -> dict[str, str]:
    """Each logged scalar and its name in the dataset; ValueError where two would have the same."""
    names = _names((part for segment in source.segments for part in segment.parts), SCALAR_PREFIX)
    shown = {name: shown_name(name) for name in names}
    if twice := [name for name in names if shown_name(name) != name and shown_name(name) in names]:
        raise ValueError(
            f"run {source.path} logs both {twice[0]!r} and {shown[twice[0]]!r}, which have one name in its data"
        )
    return shown


def current_rows(source: RunSource) -> tuple[Rows, np.ndarray[Any, Any]]:
    """The records that no later segment has replaced, and the segment of each."""
    parts: list[Part] = []
    kept, numbers = [], []
    for number, (segment, end) in enumerate(zip(source.segments, _replaced_from(source), strict=True)):
        for part in segment.parts:
            # A later segment begins with a record of its own at its first step.
            rows = np.arange(part.count) if end is None else np.flatnonzero(part["step"] < end)
            parts.append(part)
            kept.append(rows)
            numbers.append(np.full(len(rows), number, dtype=np.int64))
    return Rows(parts, kept), np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)


def current_drives(source: RunSource) -> list[Arrays]:
    """What the laws were fed at each step, segment by segment, as far as no later segment has replaced it."""
    out = []
    for segment, end in zip(source.segments, _replaced_from(source), strict=True):
        if not segment.parts:
            continue
        together = merged([{n: a for n, a in part.items() if n.startswith(DRIVE_PREFIX)} for part in segment.parts])
        if f"{DRIVE_PREFIX}step" in together:
            used = together[f"{DRIVE_PREFIX}step"] <= (np.inf if end is None else end)
            out.append({name: array[used] for name, array in together.items()})
    return out


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
            if part.width("charge") != charges:
                raise CorruptShardError(
                    f"run {source.path}: its records hold {part.width('charge')} charges, its symmetries {charges}"
                )


def _names(parts: Iterable[Part], prefix: str) -> list[str]:
    return list(dict.fromkeys(n.removeprefix(prefix) for part in parts for n in part if n.startswith(prefix)))


def _matrix(
    rows: Rows, names: Sequence[str], charges: int, missing: float = np.nan, layer: str | None = None
) -> xr.Variable:
    """[step, charge], behind an axis `layer` of all names if that is given, else of the one name.

    What is one number for all charges, or was never recorded (`missing`), takes no memory: it is not to be written.
    """
    import xarray as xr

    from neuralmechanics.monitor.reading.lazy import lazy_variable

    dims, shape = ("step", "charge"), (rows.count, charges)
    if layer is not None:
        return lazy_variable((layer, *dims), (len(names), *shape), _RowsOf(rows, names, charges))
    (name,) = names
    if rows.width(name) in (0, 1) and charges != 1:
        single = rows.read(name, np.arange(rows.count), slice(None), 1, missing)
        return xr.Variable(dims, np.broadcast_to(single, shape))
    return lazy_variable(dims, shape, _RowsOf(rows, names, charges, missing))


@dataclass(frozen=True)
class _RowsOf:
    """Reads rows and columns of the arrays of some names, each a layer."""

    rows: Rows
    names: Sequence[str]
    charges: int
    missing: float = np.nan

    def __call__(self, layer: int, wanted: Index, columns: Columns) -> Array:
        return self.rows.read(self.names[layer], wanted, columns, self.charges, self.missing)
