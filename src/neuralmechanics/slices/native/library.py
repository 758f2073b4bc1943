"""Sums over slices by a small compiled library, made once a machine where there is a compiler.

What lies beside this file is compiled with the instructions of this processor, kept in the user's cache folder, tried
against the plain version before it is used, and left alone where any of that fails: results are the same to rounding.
Torch's own extension loader is not used: it waits for ever behind the lock of a build that was killed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from neuralmechanics.slices.native.job_layout import BLOCK, JOB
from neuralmechanics.slices.native.runs import RUN
from neuralmechanics.slices.native.trial import agrees

__all__ = ["Library", "compiling", "library"]

_SOURCES = Path(__file__).parent
# Not -ffast-math, which takes nan and infinity for impossible: a training that diverges has both, and says so by them.
# Products may be fused into sums, which rounds less; a square root sets no errno, so that loops of them are vectorised.
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi")
_INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
}
# A compiler that hangs must not hold a training up: all goes without the library, to the same numbers.
_SECONDS = 120
_SWITCH = "NEURALMECHANICS_COMPILE"


class Library:
    """The functions of the sources beside this file."""

    def __init__(self, path: Path) -> None:
        loaded = ctypes.CDLL(str(path))
        sized = loaded.job_bytes, loaded.block_bytes, loaded.run_bytes
        for function in (*sized, loaded.row_column_sums, loaded.gram_sums):
            function.restype = ctypes.c_int64
        loaded.add_mixed.restype = None
        # Both sides write the layout down for themselves: a field too many on one would be read as another's number.
        sizes = tuple(int(size()) for size in sized)
        if sizes != (JOB.itemsize, BLOCK.itemsize, RUN.itemsize):
            raise OSError(f"{path} was compiled for jobs, blocks and runs of {sizes} bytes, not of what they have here")
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        loaded.row_column_sums.argtypes = [pointer, number, pointer, pointer, pointer, number, number]
        loaded.gram_sums.argtypes = [*(3 * [pointer]), number, *(4 * [pointer]), number, number]
        loaded.add_mixed.argtypes = [pointer, number, number, pointer, number, number, pointer, number]
        self._sums, self._grams, self._mixed = loaded.row_column_sums, loaded.gram_sums, loaded.add_mixed

    def sums(self, jobs: int, count: int, addresses: array[int], weights: int, out: torch.Tensor, threads: int) -> None:
        """Fill `out` [forms, places] for every job; jobs and weights are given by where they lie in memory.

        `addresses`: of each operand of each job, two. The tensors have to be kept meanwhile.
        """
        if self._sums(jobs, count, addresses.buffer_info()[0], weights, out.data_ptr(), out.stride(0), threads):
            raise MemoryError("no memory for the sums of a step")

    def grams(
        self,
        jobs: int,
        table: tuple[np.ndarray, np.ndarray, np.ndarray],
        addresses: array[int],
        weights: int,
        out: torch.Tensor,
        threads: int,
    ) -> None:
        """Add the forms of blocks to `out` [forms, charges]. `table`: blocks, where groups of them begin, channels."""
        blocks, groups, channels = table
        given = (jobs, blocks.ctypes.data, groups.ctypes.data, len(groups) - 1, channels.ctypes.data)
        if self._grams(*given, addresses.buffer_info()[0], weights, out.data_ptr(), out.stride(0), threads):
            raise MemoryError("no memory for the Gram matrices of a step")

    def add_mixed(self, values: torch.Tensor, runs: np.ndarray, out: torch.Tensor, *, absolute: bool = False) -> None:
        """Add the map that runs stand for, of every form of `values`, to `out` [forms, charges]."""
        given = values.data_ptr(), values.stride(0), values.shape[0], runs.ctypes.data, len(runs), int(absolute)
        self._mixed(*given, out.data_ptr(), out.shape[1])


def compiling() -> bool:
    """Whether anything may be compiled: not where NEURALMECHANICS_COMPILE=0."""
    return os.environ.get(_SWITCH, "1") != "0"


@cache
def library() -> Library | None:
    """The library, compiled the first time on a machine; None where it cannot be had or NEURALMECHANICS_COMPILE=0."""
    if not compiling() or sys.platform == "win32" or sys.byteorder != "little":
        return None
    try:
        found = Library(_compiled())
    except (OSError, subprocess.SubprocessError):
        return None
    return found if agrees(found) else None


def _compiled() -> Path:
    """The compiled library of this source, processor and compiler's flags."""
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise OSError("no C++ compiler on this machine")
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = _INSTRUCTIONS.get(capability, ())
    text = [path.read_bytes() for path in sorted((*_SOURCES.glob("*.h"), *_SOURCES.glob("*.cpp")))]
    key = hashlib.sha256(repr((text, _FLAGS, instructions, sys.platform, torch.__version__)).encode()).hexdigest()[:16]
    path = _folder() / f"products-{capability.replace(' ', '-').lower()}-{key}.so"
    if not path.exists():
        _compile(compiler, instructions, path)
    return path


def _compile(compiler: str, instructions: Sequence[str], path: Path) -> None:
    """Build beside the place and rename: another process sees a whole library or none. With threads where it can."""
    sources = [str(source) for source in sorted(_SOURCES.glob("*.cpp"))]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".building-")
    os.close(handle)
    try:
        for threads in (("-fopenmp",), ()):
            # CXX may be several words, such as a cache of compilations before the compiler.
            command = [*compiler.split(), *_FLAGS, *instructions, *threads, "-o", name, *sources]
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
            if done.returncode == 0:
                os.replace(name, path)
                return
        raise OSError(f"{compiler} could not compile what is in {_SOURCES}")
    finally:
        Path(name).unlink(missing_ok=True)


def _folder() -> Path:
    """A folder that nobody else can write to: code is loaded from it."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "neuralmechanics"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"{folder} can be written by others")
    return folder
