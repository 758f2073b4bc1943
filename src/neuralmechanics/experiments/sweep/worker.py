"""One training of a sweep, in whatever process it finds itself."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from neuralmechanics.configuration.build import config_from_dict
from neuralmechanics.experiments.config import RESULT, TrainConfig
from neuralmechanics.experiments.sweep.parent import end_with_parent
from neuralmechanics.experiments.training.runfolder import write_json
from neuralmechanics.monitor.store.atomic import make_folder
from neuralmechanics.monitor.warning import MonitorWarning

FAILED = "failed.json"

Trains = Callable[[dict[str, Any], str, str, str | None], None]


def serve(pipe: Connection, train: Trains, directory: str, device: str | None) -> None:
    """Calls `train` for each configuration and folder that comes through `pipe`, and answers when it has returned.

    What a run held is given back before the next one. Modules of one's own are imported once in a process. What memory
    or disk refuse ends it; the answer is the reason then.
    """
    end_with_parent()
    while True:
        try:
            config, folder = pipe.recv()
        except EOFError:
            return
        try:
            train(config, folder, directory, device)
        except (OSError, MemoryError) as error:
            pipe.send(f"{type(error).__name__}: {error}")
            raise
        gc.collect()
        # What torch's allocator keeps for later is missing to the other processes of the device.
        _empty_caches()
        pipe.send(None)


def _empty_caches() -> None:
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def train_point(config: dict[str, Any], folder: str, directory: str, device: str | None = None) -> None:
    """Train `config` in `folder`, continuing what a killed worker left; a failure of the training is recorded there.

    Examples of one's own lie beside the folder, where the sweep has put them.

    One thread, whatever the machine: so a run's numbers do not depend on where it ran. `directory` is where models
    named `package.module:factory` are imported from; `device` is where this run trains, None: where its configuration
    says.
    """
    end_with_parent()
    import torch

    from neuralmechanics.experiments.data import stored_data
    from neuralmechanics.experiments.training.loop import train

    torch.set_num_threads(1)
    os.chdir(directory)
    out = Path(folder)
    # A failure of an earlier sweep may have had a reason that is gone.
    (out / FAILED).unlink(missing_ok=True)
    try:
        with warnings.catch_warnings():
            # The run keeps what its monitor says; an interrupted sweep says one line, and that for all of its workers.
            warnings.filterwarnings("ignore", r"step \d+ was interrupted", MonitorWarning)
            made = config_from_dict(config, TrainConfig)
            train(made, out, resume=True, device=device, data=stored_data(out.parent, made.data))
    # Faults of the training itself. What memory or disk refuse is none: the process ends, and the run is begun again.
    except (ValueError, TypeError, ArithmeticError) as error:
        record_failure(out, error)


def record_failure(folder: Path, error: Exception) -> None:
    """The run in `folder` is settled: it failed."""
    make_folder(folder)
    write_json(folder / FAILED, {"error": f"{type(error).__name__}: {error}"})


def is_finished(folder: Path) -> bool:
    """Whether the run is complete."""
    return (folder / RESULT).is_file()


def is_settled(folder: Path) -> bool:
    """Whether a worker got to an end here: a result, or a failure of the training itself."""
    return is_finished(folder) or (folder / FAILED).is_file()
