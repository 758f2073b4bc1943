"""Gram matrices of blocks of channels: the charges of linear symmetries, which are entries of Σ ± A Aᵀ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.blocks import Operand, Pair
from neuralmechanics.slices.sending import sent, weighed
from neuralmechanics.slices.sums import widened
from neuralmechanics.slices.views import SliceView

__all__ = ["GramBlocks", "add_forms_", "extents"]


@dataclass(frozen=True, eq=False)
class GramBlocks:
    """One parameter's part in the charges of linear blocks.

    The slices of ``view`` that row k of ``slices`` names are the rows of a matrix A. The upper triangle of sign·A Aᵀ,
    row after row, is added to the charges from ``places[k]`` on, with the sign ``signs[k]``.
    """

    view: SliceView
    slices: np.ndarray
    places: np.ndarray
    signs: np.ndarray

    @property
    def parameter(self) -> str:
        """Name of the parameter."""
        return self.view.parameter

    @property
    def width(self) -> int:
        """Channels of a block."""
        return int(self.slices.shape[1])

    @property
    def charges(self) -> np.ndarray:
        """Numbers of the charges of every block: [blocks, width (width + 1) / 2]."""
        numbers: np.ndarray = self.places[:, None] + np.arange(self.width * (self.width + 1) // 2)
        return numbers

    def positive(self) -> GramBlocks:
        """The same with every sign +1."""
        return replace(self, signs=np.abs(self.signs))

    def channels(self, tensor: Tensor) -> Float64[Tensor, "blocks width rest"]:
        """The matrices A, in double precision."""
        order = (*self.view.kept, *self.view.summed)
        rows = widened(tensor).reshape(self.view.shape).permute(order).reshape(self.view.size, -1)
        return rows[sent(self.slices, tensor.device)]

    def add_(self, out: Float64[Tensor, " charges"], a: Tensor, b: Tensor) -> None:
        """Adds sign·½(A Bᵀ + B Aᵀ) to the charges; of complex tensors its real part.

        >>> view = SliceView("w", (2, 3), (0,))
        >>> blocks = GramBlocks(view, np.array([[0, 1]]), np.array([0]), np.array([1]))
        >>> out = torch.zeros(3, dtype=torch.float64)
        >>> blocks.add_(out, torch.ones(2, 3), torch.ones(2, 3))
        >>> out.tolist()
        [3.0, 3.0, 3.0]
        """
        add_forms_(out[None], self, [a] if a is b else [a, b], [(0, 0 if a is b else 1)], np.ones((1, 1)))


def add_forms_(
    out: Float64[Tensor, "forms charges"],
    blocks: GramBlocks,
    operands: Sequence[Operand],
    pairs: Sequence[Pair],
    weights: np.ndarray | Tensor,
) -> None:
    """Adds every form of the operands' charges: weights [forms, pairs] of the products of their matrices."""
    whole = [blocks.channels(o if isinstance(o, Tensor) else o.whole()) for o in operands]
    device = out.device
    rows, columns = torch.triu_indices(blocks.width, blocks.width, device=device)
    signs = weighed(blocks.signs, device)[:, None]
    places = sent(blocks.charges, device).reshape(-1)
    each = weighed(weights, device)
    for number, (left, right) in enumerate(pairs):
        product = whole[left] @ whole[right].mH
        product = product.real if product.is_complex() else product
        upper = product[:, rows, columns]
        if left != right:
            # A Bᵀ is not symmetric: with its transpose, halved, it is the bilinear form behind A Aᵀ.
            upper = (upper + product[:, columns, rows]) / 2
        # Two blocks may add to one charge; `out[:, places] += …` would keep only one of them.
        out.index_add_(1, places, each[:, number, None] * (signs * upper).reshape(1, -1))


def extents(view: SliceView) -> tuple[int, int, int] | None:
    """The view as outer × channels × inner, where its kept dimensions stand side by side; else None."""
    kept = view.kept
    if not kept or kept[-1] - kept[0] != len(kept) - 1:
        return None
    shape = view.shape
    return math.prod(shape[: kept[0]]), view.size, math.prod(shape[kept[-1] + 1 :])
