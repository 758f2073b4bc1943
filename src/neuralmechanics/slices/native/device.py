"""Row and column sums on a CUDA device: all matrices of a kind in one launch, and nothing that waits for the device.

`products.cu` is compiled by torch's own NVRTC for each kind of matrix (the types of its operands and the pairs wanted
of them), tried against the plain version before it is used, and left alone where any of that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.slices.blocks import AdamStep, Derived, Operand, row_column_sums
from neuralmechanics.slices.native.job_layout import JOB, OPERANDS, TYPES, addresses_of, fill_job
from neuralmechanics.slices.native.library import compiling
from neuralmechanics.slices.sending import sent

__all__ = ["DeviceSums", "Tables", "device_sums"]

_SOURCE = Path(__file__).with_name("products.cu")
_TYPES = {TYPES[torch.float32]: "float", TYPES[torch.float64]: "double", TYPES[torch.bfloat16]: "unsigned short"}
# Of a tile, and of a block of threads: as in products.cu.
_ROWS, _COLUMNS, _WARPS, _THREADS = 256, 128, 8, 256
# Tiles above which a warp adds the partial sums of one output, and not a thread.
_MANY = 32
_JOB = np.dtype(
    [(name, "i8") for name in ("rows", "columns", "row_place", "column_place", "operands", "weights")]
    + [("row_partials", "i8"), ("column_partials", "i8")]
)
_OPERAND = np.dtype([("first", "i8"), ("second", "i8"), ("scale", "f8"), ("root", "f8"), ("epsilon", "f8")])

Kernel = Callable[..., None]
# Type and kind of each operand, and the pairs.
Kind = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


@dataclass(frozen=True, eq=False)
class _Group:
    """The matrices of one kind: their jobs, tiles and shares on the device, and how many partial sums they have."""

    partial_sums: Kernel
    combine: Kernel
    jobs: Tensor
    tiles: Tensor
    shares: Tensor
    partials: int

    def launch(self, operands: Tensor, weights: Tensor, out: Tensor) -> None:
        """All sums of these matrices, on the current stream."""
        partials = torch.empty(self.partials, dtype=torch.float64, device=out.device)
        block = (_THREADS, 1, 1)
        self.partial_sums((len(self.tiles), 1, 1), block, [self.jobs, self.tiles, operands, partials])
        args = [self.jobs, self.shares, partials, weights, out, out.shape[0], out.stride(0)]
        self.combine((len(self.shares), 1, 1), block, args)


class Tables:
    """What a set of jobs has on the device: what stays, and what is sent when it is other than at the last step."""

    def __init__(self, groups: list[_Group], which: np.ndarray, device: torch.device) -> None:
        self.groups = groups
        self._which = which
        self._device = device
        self._sent: np.ndarray | None = None
        self._buffer: Tensor | None = None

    def send(self, jobs: np.ndarray, addresses: np.ndarray, weights: np.ndarray) -> tuple[Tensor, Tensor]:
        """The table of operands and that of weights, in one copy that the host does not wait for."""
        operands = np.empty(len(self._which), dtype=_OPERAND)
        operands["first"], operands["second"] = addresses[0::2], addresses[1::2]
        given = jobs["operand"].reshape(-1)[self._which]
        operands["scale"], operands["root"], operands["epsilon"] = given["scale"], given["root"], given["eps"]
        # As integers, bit by bit: a weight that is nan would differ from itself and be sent at every step.
        both = np.concatenate([operands.view(np.int64), weights.view(np.int64)])
        if self._buffer is None or self._sent is None or not np.array_equal(both, self._sent):
            self._sent, self._buffer = both, sent(both, self._device)
        size = operands.nbytes // 8
        return self._buffer[:size], self._buffer[size:]


class DeviceSums:
    """The functions of `products.cu` on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kernels: dict[Kind, tuple[Kernel, Kernel] | None] = {}
        with torch.cuda.device(device):
            # It reads no matrix; a kind is named only because the source needs one to be compiled.
            self._mix = _kernel("mix", (((0, 0),), ((0, 0),)))

    def prepare(self, jobs: np.ndarray) -> Tables | None:
        """What these jobs have on the device; None where a kind of them cannot be compiled."""
        kinds: dict[Kind, list[int]] = {}
        for number, job in enumerate(jobs):
            kinds.setdefault(_kind(job), []).append(number)
        groups = []
        first = np.cumsum(jobs["operands"]) - jobs["operands"]
        for kind, numbers in kinds.items():
            if kind not in self._kernels:
                with torch.cuda.device(self._device):
                    self._kernels[kind] = _tried(kind, self._device)
            kernels = self._kernels[kind]
            if kernels is None:
                return None
            groups.append(_group(kernels, jobs[numbers], first[numbers], len(kind[1]), self._device))
        return Tables(groups, _used(jobs), self._device)

    def sums(self, tables: Tables, jobs: np.ndarray, addresses: np.ndarray, weights: np.ndarray, out: Tensor) -> None:
        """Fill `out` [forms, places] for every job, on the current stream; `addresses`: two of each operand."""
        with torch.cuda.device(self._device):
            operands, factors = tables.send(jobs, addresses, weights)
            for group in tables.groups:
                group.launch(operands, factors, out)

    def mix(self, values: Tensor, first: Tensor, source: Tensor, weight: Tensor, out: Tensor) -> None:
        """out[form, charge] = Σ weight · values[form, source] over the entries that `first` gives each charge."""
        if not out.numel():
            return
        with torch.cuda.device(self._device):
            args = [values, values.stride(0), values.shape[0], first, source, weight, out, out.shape[1]]
            self._mix((-(-out.shape[1] // _WARPS), 1, 1), (_THREADS, 1, 1), args)


@cache
def device_sums(device: torch.device) -> DeviceSums | None:
    """What measures on a CUDA device; None where nothing can be compiled for it, or where nothing shall be."""
    if device.type != "cuda" or torch.version.hip is not None or not compiling():
        return None
    try:
        return DeviceSums(device)
    # Torch's access to NVRTC is private: a version that has it not says so by an AttributeError.
    except (AttributeError, OSError, RuntimeError):
        return None


def _group(
    kernels: tuple[Kernel, Kernel], given: np.ndarray, operands: np.ndarray, pairs: int, device: torch.device
) -> _Group:
    """Tiles and shares of the matrices of one kind."""
    jobs = np.zeros(len(given), dtype=_JOB)
    for place, name in enumerate(("rows", "columns", "row_place", "column_place")):
        jobs[name] = given["numbers"][:, place]
    jobs["weights"], jobs["operands"] = given["weights"], operands
    # One column is one row: its elements lie beside each other.
    thin = jobs["columns"] == 1
    for one, other in (("rows", "columns"), ("row_place", "column_place")):
        jobs[one][thin], jobs[other][thin] = jobs[other][thin].copy(), jobs[one][thin].copy()
    tiles, shares, partials = [], [], 0
    for number, job in enumerate(jobs):
        rows, columns = int(job["rows"]), int(job["columns"])
        down, across = -(-rows // _ROWS), -(-columns // _COLUMNS)
        at = np.stack(np.meshgrid(np.arange(down) * _ROWS, np.arange(across) * _COLUMNS, indexing="ij"), axis=-1)
        tiles.append(np.insert(at.reshape(-1, 2), 0, number, axis=1))
        job["row_partials"], partials = partials, partials + pairs * across * rows
        job["column_partials"], partials = partials, partials + pairs * down * columns
        for side, (place, length, count) in enumerate(
            ((job["row_place"], rows, across), (job["column_place"], columns, down))
        ):
            if place >= 0:
                wide = int(count > _MANY)
                shares += [(number, start, side, wide) for start in range(0, length, _WARPS if wide else _THREADS)]
    return _Group(
        *kernels,
        jobs=sent(jobs.view(np.int64).reshape(-1), device),
        tiles=sent(np.concatenate(tiles).astype(np.int64), device),
        shares=sent(np.array(shares, dtype=np.int64), device),
        partials=partials,
    )


def _used(jobs: np.ndarray) -> np.ndarray:
    """Which of the places for operands are used, one job after the other."""
    return np.flatnonzero(np.arange(OPERANDS)[None, :] < jobs["operands"][:, None])


def _kind(job: np.ndarray) -> Kind:
    operands = tuple((int(of["type"]), int(of["kind"])) for of in job["operand"][: job["operands"]])
    count = job["pairs"]
    return operands, tuple(zip(job["left"][:count].tolist(), job["right"][:count].tolist(), strict=True))


def _kernel(name: str, kind: Kind) -> Kernel:
    operands, pairs = kind
    read = " ".join(f"M({k}, {_TYPES[sort]}, {how})" for k, (sort, how) in enumerate(operands))
    added = " ".join(f"M({p}, v{a}, {f'v{b}' if b >= 0 else '1.0'})" for p, (a, b) in enumerate(pairs))
    head = f"#define TILE_ROWS {_ROWS}\n#define PAIR_COUNT {len(pairs)}\n"
    head += f"#define OPERANDS(M) {read}\n#define PAIRS(M) {added}\n"
    made: Kernel = torch.cuda._compile_kernel(head + _SOURCE.read_text(), name)
    return made


def _tried(kind: Kind, device: torch.device) -> tuple[Kernel, Kernel] | None:
    """The kernels of a kind, where they give what the plain version gives, on shapes with and without a rest."""
    try:
        kernels = _kernel("partial_sums", kind), _kernel("combine", kind)
    except RuntimeError:
        return None
    # (300, 1) is turned, (261, 130) ends inside a tile both ways, (3, 5000) has more tiles than a thread adds alone.
    agree = all(_agrees(kernels, kind, shape, device) for shape in ((1, 5), (300, 1), (9, 3), (261, 130), (3, 5000)))
    return kernels if agree else None


def _agrees(kernels: tuple[Kernel, Kernel], kind: Kind, shape: tuple[int, int], device: torch.device) -> bool:
    kinds, pairs = kind
    types = {number: dtype for dtype, number in TYPES.items()}
    generator = torch.Generator().manual_seed(0)
    operands: list[Operand] = []
    for sort, how in kinds:
        # Between ½ and 3/2: nothing cancels, so that a relative bound on the sums is one on rounding.
        first, second = (
            (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).to(device, types[sort])
            for _ in range(2)
        )
        adam = AdamStep(0.1, 2.0, 1e-8, squared=how == 2) if how > 1 else None
        operands.append(first if how == 0 else Derived(first, second, adam))
    jobs = np.zeros(1, dtype=JOB)
    rows, columns = shape
    fill_job(jobs[0], operands, pairs, (rows, columns, 0, rows), forms=len(pairs), weights=0)
    group = _group(kernels, jobs, np.zeros(1, dtype=np.int64), len(pairs), device)
    addresses = np.array([a for operand in operands for a in addresses_of(operand)])
    table, weights = Tables([group], _used(jobs), device).send(jobs, addresses, np.eye(len(pairs)).reshape(-1))
    # Not zeros: a place that the kernel leaves out would agree with an empty one.
    out = torch.full((len(pairs), rows + columns), torch.nan, dtype=torch.float64, device=device)
    group.launch(table, weights, out)
    rounding = 1e-5 if any(how == 2 and sort == 0 for sort, how in kinds) else 1e-12  # Adam's step of floats in floats
    return torch.allclose(out, torch.cat(row_column_sums(operands, pairs, shape), dim=1), rtol=rounding, atol=1e-12)
