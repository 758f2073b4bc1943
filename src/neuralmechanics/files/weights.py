"""State dicts in files: safetensors, or what ``torch.save`` writes; reading one runs no code, writing one is atomic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from neuralmechanics.files.publishing import make_folder
from neuralmechanics.files.reading import open_regular
from neuralmechanics.files.scratch import NEW, move_into_place, scratch_beside

__all__ = ["misfit", "read_weights", "require_new", "single_file", "write_weights"]

SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("model", "state_dict", "model_state_dict", "module")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Named tensors of a weights file, on the CPU; `ValueError` in one line for a file that holds anything else.

    `.safetensors`, or a torch checkpoint read with `weights_only=True`; one that wraps its state under `model`,
    `state_dict`, `model_state_dict` or `module` is unwrapped.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = _safetensors(path) if path.suffix in SAFE else _torch(file, path)
    except OSError as error:
        what = (
            f"no weights file {str(path)!r}" if isinstance(error, FileNotFoundError) else f"cannot read {str(path)!r}"
        )
        raise ValueError(f"{what}: {error.strerror}") from None
    # Wrappers may nest: a module in a model in a checkpoint.
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{str(path)!r} holds no mapping of named tensors; save model.state_dict() alone")
    return dict(content)


def _torch(file: BinaryIO, path: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - what torch raises of a damaged archive is of any kind
        lines = str(error).splitlines()
        reason = "a name in it is no text" if isinstance(error, UnicodeDecodeError) else "".join(lines[:1]).strip()
        # A key or a number alone tells nothing of what went wrong.
        reason = reason if " " in reason else "it is no archive that torch.save wrote"
        raise ValueError(f"{str(path)!r} is not a weights-only checkpoint: {reason}") from None


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is not a readable safetensors file: {error}") from None
    return weights


def single_file(path: Path) -> Path:
    """The file itself, or the only file of weights in a folder; `ValueError` where there is none, or more."""
    known = ", ".join((*SAFE, *PICKLED))
    if not path.is_dir():
        if path.exists() and path.suffix not in (*SAFE, *PICKLED):
            raise ValueError(f"{str(path)!r} is no file of weights: its name must end in one of {known}")
        return path
    for suffixes in (SAFE, PICKLED):
        found = sorted(p for p in path.iterdir() if p.suffix in suffixes)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{str(path)!r} holds {len(found)} files of weights ({found[0].name}, …); give one")
    raise ValueError(f"{str(path)!r} holds no file of weights ({known})")


def misfit(there: Tensor, here: Tensor) -> str | None:
    """Why a tensor cannot take the place of another, in words: another shape, or numbers of another kind.

    >>> misfit(torch.zeros(2), torch.zeros(3)), misfit(torch.zeros(2, dtype=torch.int8), torch.zeros(2))
    ('is (2,) there, (3,) here', 'is torch.int8 there, torch.float32 here')
    >>> misfit(torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2)) is None
    True
    >>> misfit(torch.zeros(2).to(torch.float8_e5m2), torch.zeros(2))
    'is torch.float8_e5m2 there, torch.float32 here'
    """
    if there.shape != here.shape:
        return f"is {tuple(there.shape)} there, {tuple(here.shape)} here"
    return None if _kind(there) == _kind(here) else f"is {there.dtype} there, {here.dtype} here"


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        # Eight bits and fewer are codes: their scale is another tensor.
        return "real" if tensor.dtype.itemsize > 1 else str(tensor.dtype)
    return "complex" if tensor.is_complex() else "truth" if tensor.dtype == torch.bool else "integer"


def require_new(path: Path) -> None:
    """`ValueError` where weights cannot be written: something is there already, or the name is of no weights file."""
    if path.exists():
        raise ValueError(f"{str(path)!r} exists already; give another place")
    if path.suffix not in (*SAFE, *PICKLED):
        raise ValueError(f"{str(path)!r} is no name of a weights file: end it in one of {', '.join((*SAFE, *PICKLED))}")


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Written beside its place, made durable, then put there by one rename; `ValueError` where something is already."""
    require_new(path)
    try:
        make_folder(path.parent)
        # Copies: safetensors refuses shared memory, and torch.save writes the whole storage behind a view.
        _write(path, {name: value.detach().contiguous().clone() for name, value in tensors.items()})
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error.strerror or error}") from None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors import SafetensorError

    with scratch_beside(path) as folder:
        made = folder / NEW
        try:
            if path.suffix in SAFE:
                from safetensors.torch import save_file

                # Without the name of a framework in it, Transformers does not take a file for weights.
                save_file(tensors, made, metadata={"format": "pt"})
            else:
                torch.save(tensors, made)
        except (SafetensorError, RuntimeError) as error:
            raise OSError(f"{str(error).splitlines()[0]}") from None
        # A sync is of the file and not of the handle that wrote it, so that a new one will do.
        with open(made, "rb") as file:
            os.fsync(file.fileno())
        move_into_place(made, path)
