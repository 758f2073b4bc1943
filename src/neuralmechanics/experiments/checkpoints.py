"""The whole state of a training on disk, so that it continues bit for bit after any interruption."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuralmechanics.experiments.data import Position

_KEPT = 2


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Path:
    """Publish `step-<step>.pt` in `folder` by write, fsync, rename; older checkpoints beyond the last two go.

    Holds parameters, buffers, optimiser state, position in the data, and every random state of torch. Readable with
    `torch.load(weights_only=True)`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{position.step:09d}.pt"
    scratch = path.with_suffix(f".partial-{os.getpid()}")
    with open(scratch, "wb") as file:
        torch.save(_state(model, optimizer, position), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    for old in sorted(folder.glob("step-*.pt"))[:-_KEPT]:
        old.unlink()
    return path


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    return max(folder.glob("step-*.pt"), default=None)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put the state at `path` into `model`, `optimizer` and torch's random states; returns the position."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {str(path)!r} is not readable ({reason}); remove it to resume earlier") from None
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return Position(**state["position"])


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Mapping[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
