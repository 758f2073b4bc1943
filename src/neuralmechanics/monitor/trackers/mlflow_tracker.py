"""Curves in MLflow, on a server or in local files."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes at once, and as a name.
_BATCH = 1000
_LONGEST = 250
_REFUSED = re.compile(r"[^\w.\-/ ]|(?<=/)/|(?<=\.)\.")


class MlflowTracker:
    """Metrics under `neuralmechanics/`, in a run of MLflow.

    `run_id`: by default the run that `mlflow.start_run` began; ValueError where there is none. `client`: for a place
    other than the tracking address that is set. Names lose the characters that MLflow refuses and stay unique.
    """

    def __init__(self, run_id: str | None = None, client: MlflowClient | None = None) -> None:
        import mlflow

        if run_id is None and (active := mlflow.active_run()) is not None:
            run_id = active.info.run_id
        if run_id is None:
            raise ValueError("no run of mlflow is active: call mlflow.start_run() first, or give its run_id")
        self._run = run_id
        self._client = mlflow.MlflowClient() if client is None else client
        self._names: dict[str, str] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One point a curve, a thousand at once."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(self._name(name), value, now, step) for name, value in values.items()]
        for begin in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run, metrics[begin : begin + _BATCH])

    def close(self) -> None:
        """The run is its owner's to end."""

    def _name(self, name: str) -> str:
        """A name that MLflow takes, and no other name's."""
        if name not in self._names:
            plain = _REFUSED.sub("_", f"neuralmechanics/{name}")[:_LONGEST]
            taken, number, chosen = set(self._names.values()), 1, plain
            while chosen in taken:
                number += 1
                chosen = f"{plain[: _LONGEST - 8]}-{number}"
            self._names[name] = chosen
        return self._names[name]
