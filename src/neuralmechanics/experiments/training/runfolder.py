"""The folder of one training: its configuration, checkpoints and metrics beside what the monitor writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuralmechanics.configuration.build import config_from_dict, config_to_dict
from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.files import parse_json, read_regular
from neuralmechanics.monitor.store.atomic import is_leftover, make_folder, publish, remove_leftovers
from neuralmechanics.monitor.store.lock import WriterLock

# Hidden: the monitor opens a store only in a folder that shows nothing but a run.
CONFIG = ".train.json"
TRAIN_LOCK = ".train.lock"
CHECKPOINTS = "checkpoints"
METRICS = "metrics"

_JSON_BYTES = 64 << 20


def claim_folder(out: Path, config: TrainConfig, *, resume: bool) -> WriterLock:
    """Make `out` the folder of `config`; `ValueError` if it holds something else, or the same without `resume`.

    Returns the right to write there, which the caller releases; `RunBusyError` if another process has it.
    """
    # Before the lock, so that nothing is written into a folder that is not ours, and again under it.
    _require_ours(out, config, resume=resume)
    make_folder(out)
    lock = WriterLock(out, TRAIN_LOCK)
    try:
        _require_ours(out, config, resume=resume)
        for folder in (out, out / CHECKPOINTS, out / METRICS):
            remove_leftovers(folder)
        if not (out / CONFIG).is_file():
            write_json(out / CONFIG, config_to_dict(config))
    except BaseException:
        lock.release()
        raise
    return lock


def _require_ours(out: Path, config: TrainConfig, *, resume: bool) -> None:
    if (out / CONFIG).is_file():
        if recorded_config(out) != config:
            raise ValueError(f"{str(out)!r} holds a run of another configuration; choose another folder")
        if not resume:
            raise ValueError(f"{str(out)!r} holds this run already; continue it with --resume or choose another folder")
    elif out.exists() and (not out.is_dir() or not all(_unborn(path) for path in out.iterdir())):
        raise ValueError(f"{str(out)!r} exists and is no training run; choose another folder")


def _unborn(path: Path) -> bool:
    """Whether a name is one that a training leaves that was killed before its folder was made."""
    return path.name == TRAIN_LOCK or is_leftover(path)


def recorded_config(out: Path) -> TrainConfig:
    """The configuration that `out` was trained with."""
    return config_from_dict(read_json(out / CONFIG), TrainConfig)


def write_json(path: Path, content: Any) -> None:
    """Publish `content`: the file is absent or complete."""
    publish(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of a run; `ValueError` in one line if it is missing or damaged."""
    try:
        content = parse_json(read_regular(path, _JSON_BYTES))
    except FileNotFoundError:
        raise ValueError(f"{str(path.parent)!r} is no training run: it has no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} is damaged: not a table")
    return content
