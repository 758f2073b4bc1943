"""Row and column sums by a small compiled library, made once a machine where there is a compiler.

`products.cpp` is compiled with the instructions of this processor, kept in the user's cache folder, tried against the
plain version before it is used, and left alone where any of that fails: results are the same to rounding. Torch's own
extension loader is not used: it waits for ever behind the lock of a build that was killed.
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
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.slices.blocks import AdamStep, Derived, Operand, first_of, row_column_sums

__all__ = [
    "JOB",
    "OPERANDS",
    "PAIRS",
    "TYPES",
    "Library",
    "addresses_of",
    "compiling",
    "fill_constants",
    "fill_job",
    "library",
]

# The same as in products.cpp, whose `job_bytes` is compared with the size of a job here.
OPERANDS, PAIRS = 6, 16
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_OPERAND = np.dtype([("type", "i8"), ("kind", "i8"), ("scale", "f8"), ("root", "f8"), ("eps", "f8")])
JOB = np.dtype(
    [(name, "i8") for name in ("rows", "columns", "row_place", "column_place", "operands", "pairs", "forms")]
    + [("weights", "i8"), ("left", "i8", PAIRS), ("right", "i8", PAIRS)]
    + [("operand", _OPERAND, OPERANDS), ("addresses", "i8")]
)
_SOURCE = Path(__file__).with_name("products.cpp")
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi")
_INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
}
_SECONDS = 120
_SWITCH = "NEURALMECHANICS_COMPILE"


class Library:
    """The functions of `products.cpp`."""

    def __init__(self, path: Path) -> None:
        loaded = ctypes.CDLL(str(path))
        loaded.job_bytes.restype = loaded.row_column_sums.restype = ctypes.c_int64
        loaded.add_mixed.restype = None
        if loaded.job_bytes() != JOB.itemsize:
            raise OSError(f"{path} was compiled for jobs of {loaded.job_bytes()} bytes, not {JOB.itemsize}")
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        loaded.row_column_sums.argtypes = [pointer, number, pointer, pointer, pointer, number, number]
        loaded.add_mixed.argtypes = [pointer, number, number, pointer, pointer, pointer, number, pointer, number]
        self._sums, self._mixed = loaded.row_column_sums, loaded.add_mixed

    def sums(self, jobs: int, count: int, addresses: np.ndarray, weights: int, out: torch.Tensor, threads: int) -> None:
        """Fill `out` [forms, places] for every job; jobs and weights are given by where they lie in memory.

        `addresses`: of each operand of each job, two. The tensors have to be kept meanwhile.
        """
        if self._sums(jobs, count, addresses.ctypes.data, weights, out.data_ptr(), out.stride(0), threads):
            raise MemoryError("no memory for the sums of a step")

    def add_mixed(
        self, values: torch.Tensor, source: torch.Tensor, charge: torch.Tensor, weight: torch.Tensor, out: torch.Tensor
    ) -> None:
        """Add weight · values[form, source] to out[form, charge]."""
        self._mixed(
            values.data_ptr(),
            values.stride(0),
            values.shape[0],
            source.data_ptr(),
            charge.data_ptr(),
            weight.data_ptr(),
            source.shape[0],
            out.data_ptr(),
            out.shape[1],
        )


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
    return found if _agrees(found) else None


def _compiled() -> Path:
    """The compiled library of this source, processor and compiler's flags."""
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise OSError("no C++ compiler on this machine")
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = _INSTRUCTIONS.get(capability, ())
    text = _SOURCE.read_bytes()
    key = hashlib.sha256(repr((text, _FLAGS, instructions, sys.platform, torch.__version__)).encode()).hexdigest()[:16]
    path = _folder() / f"products-{capability.replace(' ', '-').lower()}-{key}.so"
    if not path.exists():
        _compile(compiler, instructions, path)
    return path


def _compile(compiler: str, instructions: Sequence[str], path: Path) -> None:
    """Build beside the place and rename: another process sees a whole library or none. With threads where it can."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".building-")
    os.close(handle)
    try:
        for threads in (("-fopenmp",), ()):
            command = [*compiler.split(), *_FLAGS, *instructions, *threads, "-o", name, str(_SOURCE)]
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
            if done.returncode == 0:
                os.replace(name, path)
                return
        raise OSError(f"{compiler} could not compile {_SOURCE.name}")
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


def _agrees(found: Library) -> bool:
    """Whether it gives what the plain version gives, on every kind of operand and on shapes with and without a rest."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((1, 5), (9, 3), (11, 37), (3, 300)):
        for dtype in TYPES:
            a, b, c = (
                torch.rand(rows, columns, generator=generator, dtype=torch.float64).to(dtype) + 0.5 for _ in range(3)
            )
            operands: list[Operand] = [a, b, c]
            pairs = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
            for count in (1, 2, 3, 6):
                if not _same(found, operands, pairs[:count], (rows, columns)):
                    return False
            steps = (None, AdamStep(0.1, 2.0, 1e-8), AdamStep(0.1, 2.0, 1e-8, squared=False))
            derived: list[list[Operand]] = [[Derived(a, b, step), c] for step in steps]
            rounding = 1e-6 if dtype == torch.float32 else 1e-13  # Adam's step of floats is taken in floats
            if not all(_same(found, each, [(0, 0), (1, 0), (0, -1)], (rows, columns), rounding) for each in derived):
                return False
    return True


def _same(
    found: Library,
    operands: list[Operand],
    pairs: list[tuple[int, int]],
    shape: tuple[int, int],
    rounding: float = 1e-13,
) -> bool:
    rows, columns = shape
    job = np.zeros(1, dtype=JOB)
    used = 1 + max(max(pair) for pair in pairs)
    fill_job(job[0], operands[:used], pairs, shape, (0, rows), forms=len(pairs), weights=0)
    out = torch.zeros(len(pairs), rows + columns, dtype=torch.float64)
    weights = np.eye(len(pairs))
    addresses = np.array([a for operand in operands[:used] for a in addresses_of(operand)])
    found.sums(job.ctypes.data, 1, addresses, weights.ctypes.data, out, 2)
    return torch.allclose(out, torch.cat(row_column_sums(operands, pairs, shape), dim=1), rtol=rounding, atol=1e-12)


def fill_job(
    job: np.ndarray,
    operands: Sequence[Operand],
    pairs: Sequence[tuple[int, int]],
    shape: tuple[int, int],
    places: tuple[int, int],
    *,
    forms: int,
    weights: int,
) -> None:
    """Write one matrix's work down as the library reads it, all but where its tensors lie."""
    job["rows"], job["columns"] = shape
    job["row_place"], job["column_place"] = places
    job["operands"], job["pairs"], job["forms"] = len(operands), len(pairs), forms
    job["weights"] = weights
    job["left"][: len(pairs)] = [left for left, _ in pairs]
    job["right"][: len(pairs)] = [right for _, right in pairs]
    for k, operand in enumerate(operands):
        of = job["operand"][k]
        of["type"] = TYPES[first_of(operand).dtype]
        of["kind"] = 0
        if isinstance(operand, Derived):
            of["kind"] = 1 if operand.adam is None else 2 if operand.adam.squared else 3
            fill_constants(of, operand)


def addresses_of(operand: Operand) -> tuple[int, int]:
    """Where its tensors lie."""
    if isinstance(operand, Tensor):
        return operand.data_ptr(), 0
    return operand.first.data_ptr(), operand.second.data_ptr()


def fill_constants(of: np.ndarray, operand: Derived) -> None:
    """Write down what Adam's step has besides its moments: other numbers at every step."""
    if operand.adam is not None:
        of["scale"], of["root"], of["eps"] = operand.adam.scale, operand.adam.root, operand.adam.epsilon
