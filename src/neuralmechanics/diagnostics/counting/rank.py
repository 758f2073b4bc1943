"""Ranks read from singular values on an absolute scale, with the gap that supports each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["Gap", "Span", "matrix_rank", "span_tolerance"]


@dataclass(frozen=True)
class Gap:
    """Two neighbouring singular values: the smallest that was counted and the largest that was not.

    ``kept`` is infinite where nothing was counted, ``dropped`` zero where nothing was left. ``rounding`` bounds what
    the decomposition itself may have moved a singular value by: the greater side of the matrix times 2⁻⁵².
    """

    kept: float
    dropped: float
    where: str = ""
    rounding: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times the counted value exceeds the dropped one."""
        return self.kept / self.dropped if self.dropped > 0 else float("inf")

    @property
    def margin(self) -> float:
        """How many times the counted value exceeds both the dropped one and the bound of rounding."""
        noise = max(self.dropped, self.rounding)
        return self.kept / noise if noise > 0 else float("inf")

    def __str__(self) -> str:
        return f"{self.where}: kept {self.kept:.1e}, dropped {self.dropped:.1e}"


def matrix_rank(
    rows: Float64[Tensor, "rows columns"],
    tolerance: float,
    where: str = "",
    scale: float | None = None,
    least: float = 0.0,
) -> tuple[int, Float64[Tensor, "columns rank"], Gap]:
    """Rank of a matrix: singular values above ``tolerance``·``scale``, with basis and gap.

    The scale is by default the largest one, or ``least`` where that is smaller. The basis is an orthonormal basis of
    the row space.

    >>> rank, basis, gap = matrix_rank(torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64), 1e-9)
    >>> rank, gap.dropped < 1e-15
    (1, True)
    """
    columns = rows.shape[1]
    if rows.shape[0] == 0 or columns == 0:
        return 0, rows.new_zeros(columns, 0), Gap(float("inf"), 0.0, where)
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    unit = max(float(values[0]), least) if scale is None else scale
    if unit == 0.0:
        return 0, rows.new_zeros(columns, 0), Gap(float("inf"), 0.0, where)
    relative = values / unit
    rank = int((relative > tolerance).sum())
    kept = float(relative[rank - 1]) if rank else float("inf")
    dropped = float(relative[rank]) if rank < len(relative) else 0.0
    rounding = max(rows.shape) * torch.finfo(torch.float64).eps
    return rank, right[:rank].mT.contiguous(), Gap(kept, dropped, where, rounding)


def span_tolerance(tolerance: float, gaps: Sequence[Gap]) -> float:
    """What of a new vector outside a span counts: a direction seen with the relative size s is known to 1e-16/s."""
    # With room for a thousand roundings.
    return max(tolerance, 1e-13 / min(gap.kept for gap in gaps))


@dataclass
class Span:
    """A growing subspace of R^n with an orthonormal basis, fed with vectors whose own scale is known."""

    basis: Float64[Tensor, "n rank"]
    tolerance: float

    @property
    def rank(self) -> int:
        """Dimension of the subspace."""
        return int(self.basis.shape[1])

    def residual(self, vectors: Float64[Tensor, "count n"]) -> Float64[Tensor, "count n"]:
        """What of each vector lies outside: projected twice, because once leaves rounding of the size of the vector."""
        for _ in range(2):
            vectors = vectors - (vectors @ self.basis) @ self.basis.mT
        return vectors

    @property
    def complement(self) -> Float64[Tensor, "n rest"]:
        """An orthonormal basis of what is left."""
        full: Tensor = torch.linalg.qr(self.basis, mode="complete").Q
        return full[:, self.rank :]

    def absorb(self, rows: Float64[Tensor, "count n"], where: str = "") -> tuple[int, Gap]:
        """``extend`` for very many rows and few missing directions: works in the complement, at its small dimension."""
        rest = self.complement
        size = float(rows.norm(dim=1).max()) if rows.numel() else 0.0
        if rest.shape[1] == 0 or size == 0.0:
            return 0, Gap(float("inf"), 0.0, where)
        rank, within, gap = matrix_rank(rows @ rest, self.tolerance, where, scale=size)
        if rank:
            # All of it anew, or the rounding of many absorptions would add up.
            self.basis = torch.linalg.qr(torch.cat([self.basis, rest @ within], dim=1)).Q
        return rank, gap

    def extend(self, vectors: Float64[Tensor, "count n"], where: str = "") -> tuple[int, Gap]:
        """Adds the directions of ``vectors`` (each of natural size 1) outside the span; how many, and the gap."""
        rank, basis, gap = matrix_rank(self.residual(vectors), self.tolerance, where, scale=1.0)
        if rank:
            # Directions of small singular values carry rounding along the span, which is taken off once more.
            basis = self.residual(basis.mT).mT
            self.basis = torch.cat([self.basis, torch.linalg.qr(basis).Q], dim=1)
        return rank, gap
