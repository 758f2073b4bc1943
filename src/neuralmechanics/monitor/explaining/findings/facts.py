"""What findings are made from: the budget by layer, what was looked at in the loop, what the monitor said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.laws import MEASURED_PARTS
from neuralmechanics.monitor.explaining.budget import layers
from neuralmechanics.monitor.explaining.findings.books import Books, books_of
from neuralmechanics.monitor.store.merging import stacked
from neuralmechanics.monitor.store.shards.schema import OBSERVED_PREFIX
from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.monitor.warning import Note

if TYPE_CHECKING:
    import xarray as xr

    from neuralmechanics.monitor.explaining.forecasting.forecast import Forecast
    from neuralmechanics.monitor.reading.run import Run
    from neuralmechanics.symmetry import Symmetries

Matrix = np.ndarray[Any, Any]
MISSING, ZERO, THERE = 0, 1, 2
LOW = ("bfloat16", "float16")
# Causes that were seen, and not only thought of.
DECISIVE = ("broken: clipping", "broken: missing")
_OF_THE_MODEL = ("broken: mode", "broken: constant")
# Of a charge's size: what a broken symmetry has to have moved to be spoken of.
_DRIFT = 1e-3


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter as the loop held it when the run began; no decay where no optimiser holds it."""

    name: str
    dimensions: int
    type: str
    weight_decay: float | None


class Facts:
    """The run behind findings, each number computed once."""

    def __init__(self, run: Run, source: RunSource) -> None:
        self.run = run
        self._source = source

    @cached_property
    def data(self) -> xr.Dataset:
        """The records."""
        return self.run.data

    @cached_property
    def symmetries(self) -> Symmetries:
        """The families."""
        return self.run.symmetries

    @cached_property
    def notes(self) -> Sequence[Note]:
        """What the monitor said."""
        return self.run.warnings

    @cached_property
    def steps(self) -> int:
        """Steps made, by the last record."""
        steps = self.data["step"].to_numpy()
        return int(steps[-1]) if len(steps) else 0

    @cached_property
    def kinds(self) -> Matrix:
        """The kind of each charge."""
        return np.array(self.symmetries.kinds)

    @cached_property
    def layers(self) -> Matrix:
        """The layer of each charge."""
        return np.array(layers(self.symmetries))

    @cached_property
    def families(self) -> Matrix:
        """The family of each charge."""
        return np.array(self.symmetries.family_names)

    @cached_property
    def budget(self) -> xr.Dataset:
        """What moved every charge between records, read when it is asked for."""
        return self.run.budget()

    @cached_property
    def books(self) -> Books:
        """What the budget adds up to."""
        return books_of(self.budget)

    @cached_property
    def ends(self) -> Matrix:
        """The last step of each interval of the budget."""
        ends: Matrix = self.budget["step"].to_numpy()
        return ends

    @cached_property
    def motion(self) -> Matrix:
        """Σ |what each cause did| to each charge over the run: what shares are of."""
        total: Matrix = np.abs(self.books.sums["outside"])
        for name in MEASURED_PARTS:
            total = total + np.abs(self.books.sums[name])
        return total

    @cached_property
    def forecast(self) -> Forecast | None:
        """The forecast; None where there are too few records or none is made."""
        try:
            return self.run.forecast()
        except ValueError:
            return None

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The trainable parameters as they were when the run began."""
        seen = self._observed.get("parameters", [])
        return [Parameter(p["name"], int(p["dimensions"]), p["type"], p["weight_decay"]) for p in seen]

    @cached_property
    def norms(self) -> list[str]:
        """The modules with running statistics."""
        return [str(name) for name in self._observed.get("norms", [])]

    def observed(self, name: str) -> Matrix | None:
        """What was looked at at each record at which it was, [records, …]; None where nothing was."""
        parts = [part for segment in self._source.segments for part in segment.parts]
        known = [part for part in parts if OBSERVED_PREFIX + name in part]
        if not known:
            return None
        rows = stacked(known, OBSERVED_PREFIX + name).astype(np.float64)
        there = ~np.isnan(rows.reshape(len(rows), -1)).all(axis=1) if rows.size else np.zeros(len(rows), dtype=bool)
        return rows[there]

    @cached_property
    def _observed(self) -> Mapping[str, Any]:
        first = next(iter(self._source.segments), None)
        found = {} if first is None else first.info.get("observed", {})
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def loop_fault(self) -> Note | None:
        """What the monitor said of a gradient that is not the loss's: no constant of the model accounts for that.

        None where nothing was moved by it but what a norm's eps may move, too: a gradient so small that it has no
        digits left.
        """
        said = (note for note in self.notes if note.subject.startswith("broken: "))
        note = next((note for note in said if note.subject not in _OF_THE_MODEL), None)
        if note is None or note.subject in DECISIVE:
            return note
        charged = self.symmetries.charged
        exact = np.repeat([not family.broken_by for family in charged], [family.charges for family in charged])
        drift = np.abs(self.books.sums["broken_symmetry"]) / self.data["scale"].to_numpy()
        return note if (drift[exact.astype(bool)] > _DRIFT).any() else None

    def note(self, prefix: str) -> Note | None:
        """The first thing that was said of a subject."""
        return next((note for note in self.notes if note.subject.startswith(prefix)), None)

    def of_layers(self, mask: Matrix) -> tuple[str, ...]:
        """The layers of some charges, in model order."""
        return tuple(dict.fromkeys(self.layers[mask].tolist()))
