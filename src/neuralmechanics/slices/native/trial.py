"""Whether the compiled library gives what the plain version gives: asked once in a process, before it is used."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuralmechanics.slices.blocks import AdamStep, Derived, Operand, row_column_sums
from neuralmechanics.slices.grams import GramBlocks, add_forms_, extents
from neuralmechanics.slices.native.job_layout import BLOCK, JOB, TYPES, addresses_of, fill_job
from neuralmechanics.slices.views import SliceView

if TYPE_CHECKING:
    from neuralmechanics.slices.native.library import Library

__all__ = ["agrees"]


_SQUARES = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
# What a measured step asks for, a plain one and that of Adam, and their sums.
_OF_DERIVED = ([(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 0)], [(0, -1), (1, -1)], [(1, 0), (0, -1)])
_OF_TENSORS = tuple(
    [_SQUARES[k] for k in chosen] for chosen in ((0,), (0, 1), (0, 1, 2), (0, 1, 5), (0, 1, 3, 4, 5), range(6))
)


def agrees(found: Library) -> bool:
    """Whether it does, on every kind of operand and on shapes with and without a rest."""
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        # Between ½ and 3/2: nothing cancels, so that a relative bound on the sums is one on rounding.
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) + 0.5

    # At most 300 numbers of one sign are added up, in whatever order: 300 roundings are 7e-14.
    for dtype in TYPES:
        rounding = 1e-6 if dtype == torch.float32 else 1e-13  # Adam's step of floats is taken in floats
        for shape in ((1, 5), (9, 3), (11, 37), (3, 300)):
            a, b, c = (drawn(shape, dtype) for _ in range(3))
            if not all(_sums_agree(found, [a, b, c], pairs, shape) for pairs in (*_OF_TENSORS, [(0, -1)])):
                return False
            for operands in _derived(a, b, c):
                if not all(_sums_agree(found, operands, pairs, shape, rounding) for pairs in _OF_DERIVED):
                    return False
        for blocks in _BLOCKS:
            a, b, c = (drawn(blocks.view.shape, dtype) for _ in range(3))
            if not all(_grams_agree(found, operands, blocks, rounding) for operands in _derived(a, b, c)):
                return False
    return True


def _derived(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> list[list[Operand]]:
    """A tensor beside each of what two are made into, in both orders."""
    steps = (None, AdamStep(0.1, 2.0, 1e-8), AdamStep(0.1, 2.0, 1e-8, squared=False))
    made: list[Operand] = [Derived(a, b, step) for step in steps]
    return [[one, c] for one in made] + [[c, one] for one in made]


def _sums_agree(
    found: Library,
    operands: list[Operand],
    pairs: list[tuple[int, int]],
    shape: tuple[int, int],
    rounding: float = 1e-13,
) -> bool:
    """On rows and columns together, and on either alone."""
    rows, columns = shape
    used = operands[: 1 + max(max(pair) for pair in pairs)]
    expected = torch.cat(row_column_sums(operands, pairs, shape), dim=1)
    weights, job = np.eye(len(pairs)), np.zeros(1, dtype=JOB)
    addresses = array("q", [a for operand in used for a in addresses_of(operand)])
    for places in ((0, rows), (0, -1), (-1, rows)):
        fill_job(job[0], used, pairs, (*shape, *places), forms=len(pairs), weights=0)
        out = torch.zeros(len(pairs), rows + columns, dtype=torch.float64)
        # By two threads, so that the seams between them are tried as well.
        found.sums(job.ctypes.data, 1, addresses, weights.ctypes.data, out, 2)
        asked = [slice(0, rows)] * (places[0] >= 0) + [slice(rows, rows + columns)] * (places[1] >= 0)
        if not all(torch.allclose(out[:, part], expected[:, part], rtol=rounding, atol=1e-12) for part in asked):
            return False
    return True


def _blocks(shape: tuple[int, ...], kept: tuple[int, ...], slices: list[list[int]]) -> GramBlocks:
    width, count = len(slices[0]), len(slices)
    places = np.arange(count) * (width * (width + 1) // 2)
    return GramBlocks(SliceView("w", shape, kept), np.array(slices), places, np.where(np.arange(count) % 2, -1, 1))


_BLOCKS = (
    _blocks((70, 12), (1,), [[0, 1, 2], [4, 5, 6]]),
    _blocks((70, 12), (1,), [[9, 0, 3, 7, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7, 8]]),
    _blocks((6, 70), (0,), [[2, 3], [5, 0]]),
    _blocks((2, 6, 9), (1,), [[2, 3, 4], [5, 0, 1]]),
)


def _grams_agree(found: Library, operands: list[Operand], blocks: GramBlocks, rounding: float) -> bool:
    pairs = _SQUARES[:3]
    weights, job = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.zeros(1, dtype=JOB)
    seen = extents(blocks.view)
    assert seen is not None
    fill_job(job[0], operands, pairs, (*seen, 0), forms=2, weights=0)
    table = np.zeros(len(blocks.slices), dtype=BLOCK)
    table["first"], table["width"] = np.arange(len(table)) * blocks.width, blocks.width
    table["place"], table["sign"] = blocks.places, blocks.signs
    charges = blocks.charges.size
    out, expected = torch.zeros(2, charges, dtype=torch.float64), torch.zeros(2, charges, dtype=torch.float64)
    groups, channels = np.arange(len(table) + 1), np.ascontiguousarray(blocks.slices, dtype=np.int64)
    addresses = array("q", [a for operand in operands for a in addresses_of(operand)])
    found.grams(job.ctypes.data, (table, groups, channels), addresses, weights.ctypes.data, out, 2)
    add_forms_(expected, blocks, operands, pairs, weights)
    return torch.allclose(out, expected, rtol=rounding, atol=1e-12)
