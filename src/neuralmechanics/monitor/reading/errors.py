"""How far each law is from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from neuralmechanics.monitor.reading.rows import Array, in_blocks, places

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("family", "kind", "law", "charges", "max_error", "rms_error", "nonfinite_step")
By = Literal["family", "kind"]

Errors = np.ndarray[Any, np.dtype[np.float64]]
Spoken = np.ndarray[Any, np.dtype[np.bool_]]


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
        pairs = _pairs(families, kinds)
        groups = [(family, kind, places((families == family) & (kinds == kind))) for family, kind in pairs]
    else:
        groups = [("", kind, places(kinds == kind)) for kind in dict.fromkeys(kinds)]
    names = [str(law) for law in data["law"].to_numpy()]
    tallies = [[_Tally.nothing(len(kinds[chosen])) for _ in names] for _, _, chosen in groups]
    first: list[int | None] = [None] * len(groups)
    for errors, known, steps, lost in _in_stretches(data):
        for number, (_, _, chosen) in enumerate(groups):
            if first[number] is None and (rows := lost[:, chosen].any(axis=1)).any():
                first[number] = int(steps[rows][0])
            for law, tally in enumerate(tallies[number]):
                tally.add(errors[law][:, chosen], known[law][:, chosen])
    told = [
        (family, kind, law, *row, step)
        for (family, kind, _), each, step in zip(groups, tallies, first, strict=True)
        for law, tally in zip(names, each, strict=True)
        if (row := tally.summary()) is not None
    ]
    told += [] if rotations is None else list(_rotation_rows(rotations, by))
    table = pd.DataFrame(told, columns=list(COLUMNS))
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


def relative_errors(data: xr.Dataset) -> tuple[Errors, Spoken]:
    """|predicted - measured| / scale and where a law speaks, both [law, step, charge].

    A charge measured as nan or infinite has an infinite error, under every law that spoke of it at the last finite
    measurement; nan where a law does not speak, or where the scale is not known.
    """
    relative, spoken, _ = _stretch(data, np.ones((data.sizes["law"], data.sizes["charge"]), dtype=bool))
    return relative, spoken


def _in_stretches(data: xr.Dataset) -> Iterator[tuple[Errors, Spoken, Array, Spoken]]:
    """The same some records at a time, without the first, where nothing is predicted yet.

    With the steps of these records, and where their charges are not finite.
    """
    before = np.ones((data.sizes["law"], data.sizes["charge"]), dtype=bool)
    begin = 1
    for block in in_blocks(data):
        relative, spoken, before = _stretch(block, before)
        lost = ~np.isfinite(block["charge"].transpose("step", "charge").to_numpy())
        yield relative[:, begin:], spoken[:, begin:], block["step"].to_numpy(), lost
        begin = 0


def _stretch(data: xr.Dataset, before: Spoken) -> tuple[Errors, Spoken, Spoken]:
    """Relative errors, where a law speaks, and whether it did at the last finite measurement: `before`, and since."""
    charge = data["charge"].transpose("step", "charge").to_numpy()
    predicted = data["predicted"].transpose("law", "step", "charge").to_numpy()
    lost = ~np.isfinite(charge)
    spoken = ~np.isnan(predicted)
    if lost.any():
        carried = _carried(spoken, lost, before)
        spoken |= lost & carried
        before = carried[:, -1]
    elif len(charge):
        before = spoken[:, -1]
    with np.errstate(invalid="ignore", over="ignore"):
        relative = np.abs(predicted - charge)
        relative /= data["scale"].to_numpy()
    if not spoken.all():
        relative[~spoken] = np.nan
    if lost.any():
        relative[spoken & lost] = np.inf
    return relative, spoken, before


def nonfinite_step(data: xr.Dataset, chosen: np.ndarray[Any, Any] | None = None) -> int | None:
    """The first recorded step at which one of the chosen charges is not finite; None where all are at every step."""
    for block in in_blocks(data):
        finite = np.isfinite(block["charge"].transpose("step", "charge").to_numpy())
        rows = np.flatnonzero(~(finite if chosen is None else finite[:, chosen]).all(axis=1))
        if len(rows):
            return int(block["step"].to_numpy()[rows[0]])
    return None


def finite_throughout(data: xr.Dataset) -> Spoken:
    """Which charges are finite at every record."""
    finite = np.ones(data.sizes["charge"], dtype=bool)
    for block in in_blocks(data):
        finite &= np.isfinite(block["charge"].transpose("step", "charge").to_numpy()).all(axis=0)
    return finite


def _carried(spoken: Spoken, lost: Spoken, before: Spoken) -> Spoken:
    """Whether a law spoke at the last record, each one included, at which the charge was finite; `before` the first."""
    rows = np.arange(lost.shape[0])[:, None]
    last = np.maximum.accumulate(np.where(lost, -1, rows), axis=0)
    carried = np.take_along_axis(spoken, np.broadcast_to(np.maximum(last, 0), spoken.shape), axis=1)
    found: Spoken = np.where(last < 0, before[:, None], carried)
    return found


def _pairs(families: np.ndarray[Any, Any], kinds: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(families, kinds, strict=True)))


def _summary(errors: Errors, spoken: Spoken) -> tuple[int, float, float] | None:
    """Charges spoken of, maximum, root mean square; None where a law speaks of none."""
    tally = _Tally.nothing(errors.shape[1])
    tally.add(errors, spoken)
    return tally.summary()


@dataclass
class _Tally:
    """What is known of the errors that were seen: which charges a law spoke of, how often, the largest, and the sum of
    squares in units of the largest, so that those of a law that ran away do not overflow."""

    spoken: Spoken
    count: int
    largest: float
    squares: float

    @classmethod
    def nothing(cls, charges: int) -> _Tally:
        """Before any."""
        return cls(np.zeros(charges, dtype=bool), 0, 0.0, 0.0)

    def add(self, errors: Errors, spoken: Spoken) -> None:
        """Take in some records."""
        everywhere = bool(spoken.all())
        values = errors if everywhere else errors[spoken]
        if not values.size:
            return
        self.spoken = self.spoken | spoken.any(axis=0)
        self.count += values.size
        largest = float(np.maximum(self.largest, values.max()))
        if 0 < largest < np.inf:
            self.squares *= (self.largest / largest) ** 2
            self.squares += float(np.sum(np.square(values / largest)))
        self.largest = largest

    def summary(self) -> tuple[int, float, float] | None:
        """Charges spoken of, maximum, root mean square. A law that diverged to infinity keeps its infinity."""
        if not self.count:
            return None
        finite = 0 < self.largest < np.inf
        rms = self.largest * float(np.sqrt(self.squares / self.count)) if finite else self.largest
        return int(self.spoken.sum()), self.largest, rms
