"""Time as readers of the paper count it: epochs, where a run's evaluations tell them, else steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.report.source import RunLike, metrics_of, steps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def time_axis(run: RunLike, at: NDArray[np.float64] | None = None) -> tuple[NDArray[np.float64], str]:
    """The recorded steps (or those in `at`) as epochs, and the title of such an axis.

    The test set is evaluated at the end of every epoch and after the last step, so the steps of the evaluations tell
    how long each epoch was, growing batches included. A run without evaluations has its steps for time.
    """
    wanted = steps(run.data) if at is None else at
    ends = _ends_of_epochs(run)
    if len(ends) == 0:
        return wanted, "step"
    known = np.concatenate([[0.0], ends])
    count = np.arange(len(known), dtype=np.float64)
    # Beyond the last whole epoch time goes on as in that one.
    beyond = count[-1] + (wanted - known[-1]) / (known[-1] - known[-2])
    return np.where(wanted > known[-1], beyond, np.interp(wanted, known, count)), "epoch"


def _ends_of_epochs(run: RunLike) -> NDArray[np.float64]:
    metrics = metrics_of(run)
    if metrics is None or "evaluation" not in metrics.coords:
        return np.zeros(0)
    ends: NDArray[np.float64] = np.asarray(metrics["evaluation"].values, dtype=np.float64)
    # The last evaluation comes after the last step, which need not end an epoch.
    if len(ends) > 1 and ends[-1] - ends[-2] < ends[-2] - (ends[-3] if len(ends) > 2 else 0.0):
        return ends[:-1]
    return ends if len(ends) > 1 else np.zeros(0)
