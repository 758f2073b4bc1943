"""Charge matrices of linear pairs: C = Σ ± A Aᵀ over the channels of every block of a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceView, widened

__all__ = ["BlockLabels", "GramTerm", "act", "add_gram_", "complex_matrices", "gram", "infinitesimal"]


class BlockLabels(Sequence[str]):
    """The labels of all charges of linear blocks, made when they are asked for: ``block (i, j)`` with i ≤ j."""

    def __init__(self, names: Sequence[str], width: int) -> None:
        self.names = names
        self.width = width

    def __len__(self) -> int:
        return len(self.names) * (self.width * (self.width + 1) // 2)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        block, place = divmod(range(len(self))[index], self.width * (self.width + 1) // 2)
        row = 0
        while place >= self.width - row:
            place -= self.width - row
            row += 1
        return f"{self.names[block]} ({row}, {row + place})"

    def __iter__(self) -> Iterator[str]:
        for name in self.names:
            for i in range(self.width):
                for j in range(i, self.width):
                    yield f"{name} ({i}, {j})"


@dataclass(frozen=True, eq=False)
class GramTerm:
    """One parameter's part in a linear family.

    The slices of ``view`` are its channels. Row k of ``slices`` holds the channels that the term's k-th block mixes;
    they belong to block ``blocks[k]`` of the family and transform with A where ``signs[k]`` is +1, with A⁻ᵀ where it
    is -1.
    """

    view: SliceView
    slices: np.ndarray
    blocks: np.ndarray
    signs: np.ndarray

    def channels(self, tensor: Tensor) -> Float64[Tensor, "slices rest"]:
        """The tensor as a matrix, one row a slice."""
        order = (*self.view.kept, *self.view.summed)
        return widened(tensor).reshape(self.view.shape).permute(order).reshape(self.view.size, -1)

    def restore(self, rows: Float64[Tensor, "slices rest"], like: Tensor) -> Tensor:
        """The inverse of ``channels``, in the shape of ``like``."""
        order = (*self.view.kept, *self.view.summed)
        permuted = rows.reshape([self.view.shape[d] for d in order])
        return permuted.permute([order.index(d) for d in range(len(order))]).reshape(like.shape)


def add_gram_(total: Float64[Tensor, "blocks width width"], term: GramTerm, a: Tensor, b: Tensor) -> None:
    """Adds one term's share of the symmetrised Σ sign·½(A Bᵀ + B Aᵀ) to the charge matrices ``total``."""
    index = torch.as_tensor(term.slices, device=a.device)
    left = term.channels(a)[index]
    product = left @ (left if a is b else term.channels(b)[index]).mH
    product = product.real if product.is_complex() else product
    symmetric = product if a is b else (product + product.mT) / 2
    signs = torch.as_tensor(term.signs, dtype=torch.float64, device=a.device)
    total.index_add_(0, torch.as_tensor(term.blocks, device=a.device), signs[:, None, None] * symmetric)


def gram(
    terms: Sequence[GramTerm], blocks: int, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> Float64[Tensor, "blocks width width"]:
    """The charge matrices C(a, b) of all blocks, over all terms."""
    width = terms[0].slices.shape[1]
    total = torch.zeros(blocks, width, width, dtype=torch.float64, device=a[terms[0].view.parameter].device)
    for term in terms:
        add_gram_(total, term, a[term.view.parameter], b[term.view.parameter])
    return total


def act(term: GramTerm, tensor: Tensor, matrices: Float64[Tensor, "blocks width width"]) -> Tensor:
    """The tensor with its channels mixed by A (sign +1) or A⁻ᵀ (sign -1) of their block, in float64."""
    chosen = matrices[torch.as_tensor(term.blocks, device=matrices.device)]
    negative = torch.as_tensor(term.signs < 0, device=matrices.device)
    if bool(negative.any()):
        chosen = torch.where(negative[:, None, None], torch.linalg.inv(chosen).mT, chosen)
    return _mix(term, tensor, chosen, keep=True)


def infinitesimal(term: GramTerm, tensor: Tensor, matrices: Float64[Tensor, "blocks width width"]) -> Tensor:
    """d/dε of ``act`` with A = 1 + ε M at ε = 0: M θ (sign +1) or -Mᵀ θ (sign -1), zero outside the blocks."""
    chosen = matrices[torch.as_tensor(term.blocks, device=matrices.device)]
    negative = torch.as_tensor(term.signs < 0, device=matrices.device)
    return _mix(term, tensor, torch.where(negative[:, None, None], -chosen.mT, chosen), keep=False)


def complex_matrices(parts: Float64[Tensor, "blocks 2"]) -> Float64[Tensor, "blocks 2 2"]:
    """The real matrix [[a, -b], [b, a]] of multiplication by a + ib."""
    a, b = parts.double().unbind(-1)
    return torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2)


def _mix(term: GramTerm, tensor: Tensor, chosen: Tensor, *, keep: bool) -> Tensor:
    rows = term.channels(tensor)
    index = torch.as_tensor(term.slices, device=rows.device)
    out = rows.clone() if keep else torch.zeros_like(rows)
    out[index.reshape(-1)] = (chosen.to(rows.dtype) @ rows[index]).reshape(-1, rows.shape[1])
    return term.restore(out, tensor)
