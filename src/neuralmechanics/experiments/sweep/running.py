"""A sweep from start to table."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neuralmechanics.experiments.data import data_names, data_set, load_data, store_data
from neuralmechanics.experiments.sweep.beforehand import require_beforehand
from neuralmechanics.experiments.sweep.devices import default_workers, device_pool
from neuralmechanics.experiments.sweep.gathering import gather, gather_errors
from neuralmechanics.experiments.sweep.grid import Sweep
from neuralmechanics.experiments.sweep.processes import run_in_processes
from neuralmechanics.experiments.sweep.ray_pool import NoLocalRayError, run_on_ray
from neuralmechanics.experiments.sweep.worker import is_finished
from neuralmechanics.progress import Meter, SilentMeter

if TYPE_CHECKING:
    import pandas as pd


def run_sweep(
    sweep: Sweep,
    *,
    workers: int | None = None,
    backend: str = "auto",
    address: str | None = None,
    device: str | None = None,
    meter: Meter | None = None,
    data: Any = None,
) -> pd.DataFrame:
    """Train what is missing of `sweep` and gather `table.csv` and `errors.csv` in its folder; returns the table.

    `device` is where the trainings run (cpu, cuda: all accelerators in turn, cuda:1), None: where each says. `workers`
    trainings run at a time, by default one a core, or on accelerators as many as fit into their memory.
    `backend`: ray, processes, or auto (Ray where it is installed and starts). A run that a killed worker or an earlier,
    interrupted sweep left behind continues from its last checkpoint; a training that fails by itself, or whose process
    dies at every attempt, is a row of the table. `data` are examples of your own for all of them, as `train` takes
    them, called as every point's `data` says; they are written into the sweep's folder. Raises `ValueError` before any
    training where `sweep.data_first` and data is missing here.
    """
    require_beforehand(sweep if address is None else replace(sweep, data_first=False), workers)
    if backend not in ("auto", "ray", "processes"):
        raise ValueError(f"backend must be auto, ray or processes, got {backend!r}")
    installed = importlib.util.find_spec("ray") is not None
    if backend == "ray" and not installed:
        raise ValueError("backend ray needs Ray: pip install 'neuralmechanics[sweep]', or use backend processes")
    if address is not None and (backend == "processes" or not installed):
        raise ValueError("address names a Ray cluster: it needs Ray and backend ray or auto")
    meter = meter or SilentMeter()
    missing = [point for point in sweep.points if not is_finished(sweep.folder(point))]
    if sweep.data_first and address is None:
        wanted = dict.fromkeys((point.config.data, point.config.images) for point in missing)
        # All of them are here: now they are read, which takes its time.
        for name, images in wanted:
            load_data(name, images)
    if data is not None:
        _store(data, sweep, address)
    devices = device_pool(device) if address is None else []
    fitting = workers or default_workers([point.config for point in missing], devices)
    count = min(fitting, max(1, len(missing)))
    sweep.out.mkdir(parents=True, exist_ok=True)
    meter.start(len(sweep.points), f"{len(sweep.points)} runs")
    meter.advance(len(sweep.points) - len(missing))
    try:
        if not missing:
            pass
        elif backend == "ray" or (backend == "auto" and installed):
            try:
                run_on_ray(sweep, missing, count, address, meter, device)
            except NoLocalRayError:
                # What the caller did not ask for by name is no reason to train nothing.
                if backend == "ray":
                    raise
                run_in_processes(sweep, missing, count, meter, devices)
        else:
            run_in_processes(sweep, missing, count, meter, devices)
    finally:
        meter.finish()
    # Read back from the folders: runs of earlier sweeps are in the table too.
    table = gather(sweep)
    table.to_csv(sweep.out / "table.csv", index=False)
    gather_errors(sweep).to_csv(sweep.out / "errors.csv", index=False)
    return table


def _store(data: Any, sweep: Sweep, address: str | None) -> None:
    """Examples of one's own put where every worker finds them; ValueError where they cannot be meant, or seen."""
    names = {point.config.data for point in sweep.points}
    if len(names) > 1 or names & set(data_names()):
        raise ValueError(f"data = {', '.join(sorted(names))} names what is known; give examples of your own one name")
    if address is not None:
        raise ValueError("examples that are given are written to this machine's disk; on a cluster name a factory")
    sweep.out.mkdir(parents=True, exist_ok=True)
    store_data(data_set(data, names.pop()), sweep.out)
