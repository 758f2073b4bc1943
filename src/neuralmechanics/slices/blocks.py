"""Row and column sums of products of matrices in plain torch, a block that fits the cache at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.sums import widened

__all__ = ["AdamStep", "Derived", "Operand", "Pair", "Sort", "first_of", "row_column_sums", "sort_of"]

# The right operand -1 stands for ones: the product is the left operand itself.
Pair = tuple[int, int]

# Elements that are read together: what fits the cache that cores share, and a bound on memory elsewhere. In blocks that
# fit the cache of one core the calls take longer than the arithmetic.
_BLOCK, _DEVICE_BLOCK = 1 << 18, 1 << 22


@dataclass(frozen=True)
class AdamStep:
    """The constants of scale · m / (√v · root + epsilon); v stands for √v where it is a size (`squared` False)."""

    scale: float
    root: float
    epsilon: float
    squared: bool = True


@dataclass(frozen=True, eq=False)
class Derived:
    """The difference of two tensors, taken in double precision, or Adam's step from its two moments."""

    first: Tensor
    second: Tensor
    adam: AdamStep | None = None

    def whole(self) -> Tensor:
        """It as a tensor in double precision, complex where its tensors are."""
        out = widened(self.first).clone()
        self._combine_(out, widened(self.second))
        return out

    def _combine_(self, out: Tensor, second: Tensor) -> None:
        if self.adam is None:
            out.sub_(second)
        else:
            size = second.sqrt() if self.adam.squared else second
            out.mul_(self.adam.scale).div_(size.mul(self.adam.root).add_(self.adam.epsilon))

    def fill(self, out: Tensor, at: tuple[slice, slice], shape: tuple[int, int]) -> None:
        """Write some rows and columns of it, as a matrix of that shape, into a block in double precision."""
        out.copy_(self.first.reshape(shape)[at])
        # Widened before Adam's square root, which would else be rounded to the precision of the tensor.
        self._combine_(out, self.second.reshape(shape)[at].double())


Operand = Tensor | Derived
Sort = torch.dtype | tuple[torch.dtype, torch.dtype, bool | None]


def first_of(operand: Operand) -> Tensor:
    """The operand, or the first tensor that it is made of: what tells its device and type."""
    return operand if isinstance(operand, Tensor) else operand.first


def sort_of(operand: Operand) -> Sort:
    """Equal for operands that are read alike: types of numbers, and what is made of them."""
    if isinstance(operand, Tensor):
        return operand.dtype
    return operand.first.dtype, operand.second.dtype, None if operand.adam is None else operand.adam.squared


def row_column_sums(
    operands: Sequence[Operand], pairs: Sequence[Pair], shape: tuple[int, int]
) -> tuple[Float64[Tensor, "pairs rows"], Float64[Tensor, "pairs columns"]]:
    """Σ_n a[r,n]·b[r,n] and Σ_r a[r,n]·b[r,n] for every pair of operands, each operand read once.

    In double precision, in which products of floats are exact and a square neither vanishes nor overflows.
    """
    rows, columns = shape
    device = first_of(operands[0]).device
    of_rows = torch.zeros(len(pairs), rows, dtype=torch.float64, device=device)
    of_columns = torch.zeros(len(pairs), columns, dtype=torch.float64, device=device)
    size = _BLOCK if device.type == "cpu" else _DEVICE_BLOCK
    width = min(columns, size)
    # Where a row is longer than a block, blocks are pieces of single rows.
    height = min(rows, max(1, size // max(width, 1)))
    # Blocks are written over and over: memory that is asked for anew would cost more than the arithmetic.
    wide = torch.empty(len(operands), height, width, dtype=torch.float64, device=device)
    space = torch.empty(height, width, dtype=torch.float64, device=device)
    for r in range(0, rows, height):
        for c in range(0, columns, width):
            at = slice(r, min(r + height, rows)), slice(c, min(c + width, columns))
            inside = slice(at[0].stop - r), slice(at[1].stop - c)
            blocks = [block[inside] for block in wide]
            for operand, block in zip(operands, blocks, strict=True):
                if isinstance(operand, Tensor):
                    block.copy_(operand.reshape(shape)[at])
                else:
                    operand.fill(block, at, shape)
            for p, (left, right) in enumerate(pairs):
                product = blocks[left]
                if right >= 0:
                    product = torch.mul(product, blocks[right], out=space[inside])
                # A vector is a matrix of one column or one row: a sum over one entry would be a pass for nothing.
                of_rows[p, at[0]] += product[:, 0] if columns == 1 else product.sum(1)
                of_columns[p, at[1]] += product[0] if rows == 1 else product.sum(0)
    return of_rows, of_columns
