"""The budget of a run: every charge's motion between records, split by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neuralmechanics.laws import BUDGET_PARTS, MEASURED_PARTS
from neuralmechanics.monitor.reading.rows import Array, Columns, Index, Rows, in_blocks
from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, SINCE
from neuralmechanics.monitor.store.source import RunSource, Segment
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Matrix = np.ndarray[Any, np.dtype[np.float64]]
By = Literal["charge", "family", "layer"]
_BY = ("charge", "family", "layer")


def budget(source: RunSource, symmetries: Symmetries, by: By = "charge") -> xr.Dataset:
    """change[part, step, charge] and measured[step, charge]: what happened since the record before.

    Σ over `part` is `measured`: `rounding` is what is left of the measured change when every cause, and what
    something else than the optimiser wrote, is taken from it. `by` sums over the charges of a family or layer (the
    module of the family's first parameter). Where a damaged record is left out the parts of its interval are nan.
    ValueError for a run that kept no budget.
    """
    import xarray as xr

    from neuralmechanics.monitor.reading.lazy import lazy_variable

    if not source.content["configuration"]["monitor"].get("budget"):
        raise ValueError(f"run {source.path} keeps no budget: it was recorded before there was one; record it anew")
    charges = len(symmetries.labels)
    if by not in _BY:
        raise ValueError(f"by={by!r}; a budget is told by {', '.join(_BY)}")
    intervals = _Intervals(list(_stretches(source, charges)), charges)
    shape = (len(intervals.step), charges)
    labels = {"kind": symmetries.kinds, "family": symmetries.family_names, "label": symmetries.labels}
    data = xr.Dataset(
        {
            "change": lazy_variable(("part", "step", "charge"), (len(BUDGET_PARTS), *shape), intervals.change),
            "measured": lazy_variable(("step", "charge"), shape, intervals.measured),
        },
        coords={
            "part": np.array(BUDGET_PARTS, dtype=object),
            "step": intervals.step,
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
    sums = {}
    for name in map(str, data.data_vars):
        whole = data[[name]]
        blocks = in_blocks(whole) if "step" in whole.dims else [whole]
        rows = [_sums(block[name].to_numpy(), list(groups.values())) for block in blocks]
        axis = data[name].dims.index("step") if "step" in data[name].dims else 0
        empty = np.zeros((*data[name].shape[:-1], len(groups)))
        sums[name] = ((*data[name].dims[:-1], by), np.concatenate(rows, axis=axis) if rows else empty)
    kinds = (by, np.array([kind for _, kind in groups], dtype=object))
    coordinates = {name: data[name] for name in ("part", "step") if name in data.coords}
    return xr.Dataset(sums, coords={**coordinates, by: np.array([n for n, _ in groups], dtype=object), "kind": kinds})


def _sums(values: Matrix, groups: Sequence[Array]) -> Matrix:
    """The sums over the last axis of each group's members."""
    found: Matrix = np.stack([values[..., mine].sum(-1) for mine in groups], axis=-1)
    return found


def totals(data: xr.Dataset) -> pd.DataFrame:
    """One row a charge, family or layer: the measured change of the whole run and each cause's part in it."""
    import pandas as pd

    axis = str(data["measured"].dims[-1])
    name = "label" if axis == "charge" else axis
    columns: dict[str, Any] = {axis: data[name].to_numpy(), "kind": data["kind"].to_numpy()}
    measured, change = _over_the_run(data)
    columns["change"] = measured
    columns |= {str(part): row for part, row in zip(data["part"].to_numpy(), change, strict=True)}
    return pd.DataFrame(columns)


def _over_the_run(data: xr.Dataset) -> tuple[Matrix, Matrix]:
    """The sums over all intervals of what was measured and of each part; what is not known adds nothing."""
    measured, change = (
        np.zeros(data["measured"].shape[1:]),
        np.zeros((data.sizes["part"], data.sizes[data["measured"].dims[-1]])),
    )
    for block in in_blocks(data):
        measured = measured + np.nansum(block["measured"].to_numpy(), axis=0)
        change = change + np.nansum(block["change"].transpose("part", "step", ...).to_numpy(), axis=1)
    return measured, change


def _stretches(source: RunSource, charges: int) -> Iterator[_Stretch]:
    """Segment by segment up to where a later one goes on, the record there included."""
    for number, segment in enumerate(source.segments):
        if not segment.parts:
            continue
        later = [int(s.info["start_step"]) for s in source.segments[number + 1 :] if s.parts]
        yield _stretch(segment, min(later, default=None), charges)


def _stretch(segment: Segment, end: int | None, charges: int) -> _Stretch:
    kept = [np.flatnonzero(part["step"] <= (np.inf if end is None else end)) for part in segment.parts]
    rows = Rows(segment.parts, kept)
    step = rows.column("step", np.int64)
    begin, start = int(segment.info["start_step"]), segment.start.get("charge")
    if start is None or len(start) != charges or begin >= step[0]:
        start = None
    else:
        # The record of the start is lost; what it held is written beside the segment.
        step = np.r_[begin, step]
    # Where a record is lost between two, what is known of the causes is lost with it.
    lost = np.zeros(len(step) - 1, dtype=bool)
    if SINCE in rows and len(lost):
        lost = rows.column(SINCE)[-len(lost) :] != step[:-1]
    return _Stretch(rows, start, step, lost)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """The intervals between the records of one segment: `step` begins with that of its start, whose charges are `start`
    where the first record is not of it; `lost`: intervals within which a record is missing."""

    rows: Rows
    start: Array | None
    step: np.ndarray[Any, np.dtype[np.int64]]
    lost: np.ndarray[Any, np.dtype[np.bool_]]

    @property
    def count(self) -> int:
        """How many intervals there are."""
        return len(self.step) - 1

    def part(self, name: str, wanted: Index, columns: Columns, charges: int) -> Matrix:
        """What a cause did in some intervals: 0 where nothing was written, nan where a record is lost."""
        record = wanted + 1 - (self.start is not None)
        values = self.rows.read(name, record, columns, charges, missing=0.0)
        return np.where(self.lost[wanted][:, None], np.nan, values)

    def charge(self, wanted: Index, columns: Columns, charges: int) -> Matrix:
        """The charges at the ends of intervals, the start's first."""
        if self.start is None:
            return self.rows.read("charge", wanted, columns, charges)
        found = self.rows.read("charge", np.maximum(wanted - 1, 0), columns, charges)
        found[wanted == 0] = self.start[columns]
        return found


@dataclass(frozen=True, eq=False)
class _Intervals:
    """Every interval of a run, read as far as it is asked for."""

    stretches: Sequence[_Stretch]
    charges: int

    @property
    def step(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The last step of each."""
        return np.concatenate([s.step[1:] for s in self.stretches] or [np.zeros(0, dtype=np.int64)])

    def measured(self, layer: int, wanted: Index, columns: Columns) -> Matrix:
        """ΔX over some intervals."""
        return self._each(
            wanted,
            columns,
            lambda s, mine: s.charge(mine + 1, columns, self.charges) - s.charge(mine, columns, self.charges),
        )

    def change(self, layer: int, wanted: Index, columns: Columns) -> Matrix:
        """What one of `BUDGET_PARTS` did in some intervals; `rounding` is what all others leave of the change."""
        name = BUDGET_PARTS[layer]
        if name != "rounding":
            key = name if name == "outside" else BUDGET_PREFIX + name
            return self._each(wanted, columns, lambda s, mine: s.part(key, mine, columns, self.charges))
        others = (self.change(BUDGET_PARTS.index(n), wanted, columns) for n in (*MEASURED_PARTS, "outside"))
        with np.errstate(invalid="ignore"):
            rest: Matrix = self.measured(0, wanted, columns) - sum(others)
        return np.where(np.isinf(rest), np.nan, rest)  # what set back charges that were no numbers did it by infinity

    def _each(self, wanted: Index, columns: Columns, read: Callable[[_Stretch, Index], Matrix]) -> Matrix:
        """Rows that are read from the stretches which they stand in."""
        found = np.empty((len(wanted), len(np.arange(self.charges)[columns])))
        ends = np.cumsum([0, *(s.count for s in self.stretches)])
        owner = np.searchsorted(ends, wanted, side="right") - 1
        for number in np.unique(owner).tolist():
            mine = owner == number
            found[mine] = read(self.stretches[number], wanted[mine] - ends[number])
        return found


def rows_of(table: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """The table as plain rows, numbers that are not finite as null."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
