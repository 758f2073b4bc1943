"""Reading a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuralmechanics.laws import DriveHistory
from neuralmechanics.monitor.store.layout import NotARunError
from neuralmechanics.monitor.store.shards.shard import CorruptShardError
from neuralmechanics.monitor.store.source import RunSource, read_source
from neuralmechanics.monitor.warning import Note, announce
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuralmechanics.monitor.explaining.changes import ChangePoint
    from neuralmechanics.monitor.explaining.findings.finding import Finding
    from neuralmechanics.monitor.explaining.forecasting.forecast import Forecast


class Run:
    """A recorded training: charges, what each law predicted of them, residuals, hyperparameters, scalars.

    Damaged shards are found when the run is opened. `skip_damaged` reads around them; otherwise `data` and all that
    is made of it raise `CorruptShardError`, which names the shard.
    """

    def __init__(self, source: RunSource, *, skip_damaged: bool = False) -> None:
        self._source = source
        self._skip = skip_damaged

    @property
    def path(self) -> str:
        """Where the run is stored."""
        return self._source.path

    @property
    def config(self) -> Mapping[str, Any]:
        """Configuration of monitor, model and optimiser."""
        configuration: Mapping[str, Any] = self._source.content["configuration"]
        return configuration

    @property
    def origin(self) -> Mapping[str, Any]:
        """Versions, platform, command and source revision that the run was begun with."""
        origin: Mapping[str, Any] = self._source.content["origin"]
        return origin

    @property
    def segments(self) -> list[Mapping[str, Any]]:
        """One entry a start or resume: its first step, whether laws went on exactly, and its origin."""
        return [segment.info for segment in self._source.segments]

    @property
    def warnings(self) -> list[Note]:
        """What the monitor said while it recorded, in order: the step it spoke of and the text."""
        return [
            Note(note["step"], note["message"], note.get("subject", ""))
            for s in self._source.segments
            for note in s.notes
        ]

    @cached_property
    def symmetries(self) -> Symmetries:
        """The symmetries whose charges were followed."""
        try:
            return Symmetries.from_dict(self._source.content["symmetries"])
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise NotARunError(
                f"{self.path} is no run that can be read: its symmetries are damaged ({error!r})"
            ) from None

    @cached_property
    def data(self) -> xr.Dataset:
        """charge[step, charge], predicted[law, step, charge], residual[step, charge], hyperparameters[step, charge],
        scalars[step], scale[charge]; coordinates kind, family and label on charge, time and segment on step."""
        from neuralmechanics.monitor.reading.dataset import dataset

        self._require_sound()
        data = dataset(self._source, self.symmetries)
        if origin := data.attrs["scale"]:
            known = "errors are nan" if origin == "nowhere" else f"errors are relative to the charges at {origin}"
            announce(f"run {self.path}: the charges at its start are damaged, so {known}")
        return data

    @property
    def angular_momentum(self) -> xr.Dataset:
        """measured[step, rotation], predicted[step, rotation], size[step, rotation], with the family of each rotation.

        Of a run whose monitor was given laws=["rotation"]; ValueError for another.
        """
        from neuralmechanics.monitor.reading.dataset import angular_momentum

        self._require_sound()
        return angular_momentum(self._source)

    @property
    def scalars(self) -> pd.DataFrame:
        """The logged scalars, one row a record, indexed by step; without columns where nothing was logged."""
        import pandas as pd

        from neuralmechanics.monitor.reading.dataset import scalar_names

        data = self.data
        names = scalar_names(self._source).values()
        steps = pd.Index(data["step"].values, name="step")
        return pd.DataFrame({name: data[name].values for name in names}, index=steps)

    def report(self, path: str | Path, title: str | None = None) -> Path:
        """Writes the offline HTML page of the run to ``path`` (see ``neuralmechanics.report.write_report``)."""
        from neuralmechanics.report import write_report

        return write_report(self, path, title)

    def errors(self, by: Literal["family", "kind"] = "family") -> pd.DataFrame:
        """Per family, or per kind, and law the largest and the root-mean-square error over charges and records.

        Columns: family (by family alone), kind, law, charges, max_error, rms_error, nonfinite_step. The law `rotation`
        is in rows of kind `rotation`, relative to |v||θ|; `charges` counts its rotations. Errors are
        |predicted - measured| divided by the size of the charge at the start of the run: `scale` in `data`. A charge
        measured as nan or infinite has an infinite error; `nonfinite_step` is the first such step.
        """
        from neuralmechanics.monitor.reading.errors import error_table

        rotating = "rotations" in self._source.content["configuration"]["monitor"]
        return error_table(self.data, self.angular_momentum if rotating else None, by)

    def budget(self, by: Literal["charge", "family", "layer"] = "charge") -> xr.Dataset:
        """What moved every charge between records, by cause: change[part, step, charge], measured[step, charge].

        Parts: finite_step, weight_decay, momentum_memory, broken_symmetry, preconditioning, outside, rounding; they add
        up to `measured`. `by` sums over families or layers. ValueError for a run that was recorded without.
        """
        from neuralmechanics.monitor.explaining.budget import budget

        self._require_sound()
        return budget(self._source, self.symmetries, by)

    def forecast(
        self, to: int | None = None, *, learned_until: int | None = None, schedule: Callable[[int], float] | None = None
    ) -> Forecast:
        """Where every scale-free norm settles and when, how far it turns in a step, what decay halves and when.

        Learned from the records up to step `learned_until` (all of them), told up to step `to`: by default the last
        record where that lies ahead, else twice as far. `schedule` gives the learning rate of each step ahead; without
        it those that were recorded hold, and then the last of them. ValueError for fewer than four records.
        """
        from neuralmechanics.monitor.explaining.forecasting.forecast import forecast
        from neuralmechanics.monitor.explaining.forecasting.settings import Changes

        return forecast(self, to, learned_until, Changes(schedule=schedule))

    def what_if(
        self,
        *,
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        schedule: Callable[[int], float] | None = None,
        to: int | None = None,
    ) -> Forecast:
        """The forecast from the last record on under other numbers; the noise at unit norm stays what it was."""
        from neuralmechanics.monitor.explaining.forecasting.forecast import forecast
        from neuralmechanics.monitor.explaining.forecasting.settings import Changes

        return forecast(self, to, None, Changes(lr, weight_decay, momentum, schedule))

    def findings(self) -> list[Finding]:
        """What the run shows that its owner should know: at most ten, the gravest first, each with its remedy."""
        from neuralmechanics.monitor.explaining.findings.find import findings

        self._require_sound()
        return findings(self, self._source)

    def turning(self) -> xr.Dataset:
        """rotation[step, charge], in radians a step, and effective_learning_rate[step, charge] of scale-free weights.

        Record by record, of a run that keeps a budget (ValueError for another).
        """
        from neuralmechanics.monitor.explaining.turning import turning

        self._require_sound()
        return turning(self)

    def change_points(self) -> list[ChangePoint]:
        """Recorded steps by which settings jumped, parameters froze, the training was resumed or a warning was said."""
        from neuralmechanics.monitor.explaining.changes import change_points

        return change_points(self.data, self.warnings, self.segments)

    def verify(self) -> pd.DataFrame:
        """Every file, and what is missing, with its state: columns shard, sound, problem. Read from the disk again."""
        from neuralmechanics.monitor.reading.verify import verify

        return verify(Path(self.path))

    def drive_history(self) -> DriveHistory:
        """What the laws were fed at every step, for `laws.replay`; the run must have been made with drives=True."""
        from neuralmechanics.monitor.reading.history import drive_history

        self._require_sound()
        return drive_history(self._source, self.symmetries)

    def export(self, path: str | Path) -> Path:
        """Write `data` as the suffix says: .nc, .zarr, .parquet or .csv; returns the path."""
        from neuralmechanics.monitor.reading.export import export

        return export(self.data, Path(path))

    def _require_sound(self) -> None:
        if self._source.damage and not self._skip:
            problem, others = self._source.damage[0], len(self._source.damage) - 1
            more = f", and {others} more" if others else ""
            raise CorruptShardError(
                f"run {self.path}: {problem}{more}; open_run(path, skip_damaged=True) reads the other shards"
            )

    def _repr_html_(self) -> str:
        from neuralmechanics.monitor.reading.notebook import notebook_view

        told = {"path": self.path, "segments": f"{len(self.segments)}"}
        told |= {"damaged or missing": f"{len(self._source.damage)} parts"} if self._source.damage else {}
        return notebook_view("Run", told, self.symmetries, self.warnings)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.symmetries.count().items())
        said = f", {len(self.warnings)} warnings" if self.warnings else ""
        damage = f", {len(self._source.damage)} damaged or missing parts" if self._source.damage else ""
        return f"Run({self.path!r}, {len(self.segments)} segments, charges: {counts}{said}{damage})"


def open_run(path: str | Path, *, skip_damaged: bool = False) -> Run:
    """The run stored at a path, verified.

    Raises `NotARunError` for a path that holds no run. Damaged shards are named when `data` is read, see `Run`.
    """
    return Run(read_source(Path(path)), skip_damaged=skip_damaged)
