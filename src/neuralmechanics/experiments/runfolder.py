"""The folder of one training: its configuration, checkpoints and metrics beside what the monitor writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.experiments.configfile import config_from_dict, config_to_dict

# Hidden: the monitor opens a store only in a folder that shows nothing but a run.
CONFIG = ".train.json"
CHECKPOINTS = "checkpoints"
METRICS = "metrics"
RESULT = "result.json"


def claim_folder(out: Path, config: TrainConfig, *, resume: bool) -> None:
    """Make `out` the folder of `config`; `ValueError` if it holds something else, or the same without `resume`."""
    recorded = out / CONFIG
    if recorded.is_file():
        if recorded_config(out) != config:
            raise ValueError(f"{str(out)!r} holds a run of another configuration; choose another folder")
        if not resume:
            raise ValueError(f"{str(out)!r} holds this run already; continue it with --resume or choose another folder")
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"{str(out)!r} exists and is no training run; choose another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(recorded, config_to_dict(config))


def recorded_config(out: Path) -> TrainConfig:
    """The configuration that `out` was trained with."""
    return config_from_dict(read_json(out / CONFIG), TrainConfig)


def write_json(path: Path, content: Any) -> None:
    """Publish `content` by rename."""
    scratch = path.with_suffix(f".partial-{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of a run; `ValueError` in one line if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{str(path.parent)!r} is no training run: it has no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} is damaged: not a table")
    return content
