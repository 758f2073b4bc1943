"""The whole state of a training on disk, so that it continues bit for bit after any interruption.

A checkpoint is a torch file with one line behind it that holds the CRC-32 of all bytes before: torch reads past a
flipped bit (276 of 300 were resumed from without a word), and does not look at what follows its archive.
"""

from __future__ import annotations

import pickle
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuralmechanics.experiments.data import Position
from neuralmechanics.files import open_regular
from neuralmechanics.monitor.store.atomic import make_folder, publishing, write_all
from neuralmechanics.monitor.warning import announce

_KEPT = 2
_NAME = re.compile(r"step-(\d{9,})\.pt$")
_SEAL = re.compile(rb"neuralmechanics crc32=([0-9a-f]{8})\n")
# The length of that line.
_SEAL_BYTES = 31
_BLOCK = 1 << 20


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Path:
    """Publish `step-<step>.pt` in `folder` by write, fsync, rename; of the older ones the last is kept.

    Holds parameters, buffers, optimiser state, position in the data, and every random state of torch. Readable with
    `torch.load(weights_only=True)`. Raises OSError where the disk does not take it: the checkpoints before it stay.
    """
    make_folder(folder)
    path = folder / f"step-{position.step:09d}.pt"
    with publishing(path) as handle:
        _write(handle, _state(model, optimizer, position))
    for old in [p for p in checkpoints(folder) if _step(p) <= position.step][_KEPT:]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first, sound or not."""
    found = [path for path in folder.iterdir() if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(found, key=_step, reverse=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest sound checkpoint, or None where there is none at all.

    A damaged one is passed over, which is said. Raises `ValueError` where all are damaged.
    """
    damaged: list[str] = []
    for path in checkpoints(folder):
        problem = _problem(path)
        if problem is None:
            for name in damaged:
                announce(f"checkpoint {name} is damaged; the training continues from {path.name}")
            return path
        damaged.append(f"{str(path)!r} ({problem})")
    if damaged:
        raise ValueError(f"no checkpoint is sound: {', '.join(damaged)}; remove them to train from the start")
    return None


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put the state at `path` into `model`, `optimizer` and torch's random states; returns the position.

    Raises `ValueError` for a file that is not, byte for byte, what was written.
    """
    reason = _problem(path)
    if reason is None:
        try:
            return _put(torch.load(path, map_location="cpu", weights_only=True), model, optimizer)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(f"checkpoint {str(path)!r} is not readable ({reason}); remove it to resume earlier")


def _put(state: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    position = Position(**state["position"])
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return position


def _step(path: Path) -> int:
    match = _NAME.match(path.name)
    assert match is not None  # `checkpoints` lists no other name
    return int(match[1])


class _SummedFile:
    """A file for torch to write to: it sums what it is given, and keeps the disk's own error."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.checksum = 0
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            write_all(self._handle, content)
        except OSError as error:
            self.error = error
            raise
        self.checksum = zlib.crc32(content, self.checksum)
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""


def _write(handle: int, state: Mapping[str, Any]) -> None:
    file = _SummedFile(handle)
    try:
        torch.save(state, file)  # type: ignore[arg-type]
    except RuntimeError:
        if file.error is not None:
            # torch reports the failed write as a position in its archive.
            raise file.error from None
        raise
    write_all(handle, f"neuralmechanics crc32={file.checksum:08x}\n".encode())


def _problem(path: Path) -> str | None:
    """Why the bytes of a checkpoint are not those that were written; None where they are."""
    try:
        with open_regular(path) as file:
            # Summed in blocks: a checkpoint may be larger than what memory has to spare.
            rest = file.seek(0, 2) - _SEAL_BYTES
            if rest < 0:
                return "it is cut short"
            file.seek(0)
            checksum = 0
            while rest:
                block = file.read(min(_BLOCK, rest))
                checksum, rest = zlib.crc32(block, checksum), rest - len(block)
            seal = _SEAL.fullmatch(file.read())
    except (OSError, ValueError) as error:
        return str(error)
    if seal is None:
        return "it is cut short, or was written without a checksum"
    return None if int(seal[1], 16) == checksum else "it does not match its checksum"


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Mapping[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
