"""One table of a sweep: a row a run, with the grid's values, the scores and every law's largest error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuralmechanics.experiments.config import RESULT
from neuralmechanics.experiments.sweep.grid import Point, Sweep
from neuralmechanics.experiments.sweep.worker import FAILED, is_finished
from neuralmechanics.experiments.training.runfolder import read_json

if TYPE_CHECKING:
    import pandas as pd


def gather(sweep: Sweep) -> pd.DataFrame:
    """The runs of `sweep` as they are now: grid values, status, scores, `error:<law>` (largest over all families).

    `status` is finished (with what is damaged in it), missing, or the reason for which the training failed.
    """
    import pandas as pd

    return pd.DataFrame([dict(point.values) | _row(sweep, point) for point in sweep.points])


def gather_errors(sweep: Sweep) -> pd.DataFrame:
    """Every finished run's errors by family and law, with the grid's values in front."""
    import pandas as pd

    parts = []
    for point in sweep.points:
        try:
            errors = _errors(sweep, point)
        except ValueError:
            continue  # the table of runs says what is wrong with this one
        if errors is not None:
            for place, (key, value) in enumerate(point.values.items()):
                errors.insert(place, key, [value] * len(errors))
            parts.append(errors)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _row(sweep: Sweep, point: Point) -> dict[str, Any]:
    folder = sweep.folder(point)
    if not is_finished(folder):
        failed = folder / FAILED
        return {"run": point.name, "status": read_json(failed)["error"] if failed.is_file() else "missing"}
    row = {"run": point.name, "status": "finished"} | read_json(folder / RESULT)
    # How many steps this process timed says nothing about the run.
    row.pop("steps_timed", None)
    try:
        errors = _errors(sweep, point)
    except ValueError as error:
        return row | {"status": f"finished, {error}"}
    if errors is not None:
        row |= {f"error:{law}": float(error) for law, error in errors.groupby("law")["max_error"].max().items()}
        if errors["nonfinite_step"].notna().any():
            row["nonfinite_step"] = int(errors["nonfinite_step"].min())
    return row


def _errors(sweep: Sweep, point: Point) -> pd.DataFrame | None:
    """The run's error table, or None where no monitor was attached or the run is not finished."""
    from neuralmechanics.monitor import open_run

    folder = sweep.folder(point)
    if not is_finished(folder) or not (folder / "run.json").is_file():
        return None
    errors: pd.DataFrame = open_run(folder).errors()
    return errors
