"""Sweeps on Ray: a local one started for the sweep, or a cluster that shares the folder."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuralmechanics.configuration.build import config_to_dict
from neuralmechanics.experiments.sweep.grid import Point, Sweep
from neuralmechanics.experiments.sweep.worker import record_failure, train_point
from neuralmechanics.progress import Meter

RETRIES = 3


class NoLocalRayError(ValueError):
    """A Ray of this machine's own does not start, as where the machine is overloaded."""


def run_on_ray(
    sweep: Sweep, points: Sequence[Point], workers: int, address: str | None, meter: Meter, device: str | None = None
) -> None:
    """Train `points` as Ray tasks of one core each; a task whose worker dies is tried again up to three times.

    With `address` the sweep's folder must be the same on every node. Without, a local Ray of `workers` cores is
    started and stopped again. A run whose workers keep dying, or find no memory or disk, is recorded as failed, and the
    others go on.
    """
    ray: Any = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        local = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, ValueError, OSError) as error:
            raise _refused(address, error) from None
        # A local Ray that is not up in time raises a bare Exception.
        except Exception as error:
            if address is not None:
                raise
            raise _refused(address, error) from None
    try:
        _drain(ray, sweep, points, workers, meter, device)
    finally:
        if ours:
            ray.shutdown()


def _refused(address: str | None, error: Exception) -> ValueError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if address is not None:
        return ValueError(f"no Ray at {address!r}: {reason}")
    return NoLocalRayError(f"Ray does not start here: {reason} Use backend processes")


def _drain(ray: Any, sweep: Sweep, points: Sequence[Point], workers: int, meter: Meter, device: str | None) -> None:
    gpus = float(ray.cluster_resources().get("GPU", 0))
    # With fewer accelerators than workers, each worker has its share of one.
    remote = ray.remote(num_cpus=1, num_gpus=min(1.0, gpus / workers), max_retries=RETRIES)(train_point)
    folders: dict[Any, Path] = {}
    for point in points:
        folder = sweep.folder(point).absolute()
        # Ray shows each task the accelerators that are its own: "cuda" is the right one there.
        task = remote.remote(config_to_dict(point.config), str(folder), os.getcwd(), device)
        folders[task] = folder
    waiting = list(folders)
    while waiting:
        finished, waiting = ray.wait(waiting, num_returns=1)
        for task in finished:
            try:
                ray.get(task)
            # What the training itself raises is recorded by the task; here its worker has died at every attempt.
            except ray.exceptions.WorkerCrashedError:
                record_failure(folders[task], ChildProcessError(f"its worker died {RETRIES + 1} times"))
            # What memory or disk refuse is raised here as it was there; the others may have what they need.
            except ray.exceptions.RayTaskError as error:
                record_failure(folders[task], getattr(error, "cause", None) or error)
            meter.advance(1)
