"""Channels of parameters that transform with A or with A⁻ᵀ of their block: how a matrix acts, and Σ ± A Aᵀ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import GramBlocks, SliceTerm, SliceView, widened
from neuralmechanics.symmetry.families.actions.terms.slice_terms import integers, view_from

__all__ = ["GramTerm", "act", "energies", "gram", "gram_terms_from", "gram_terms_to", "infinitesimal"]


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

    def factors(self, inside: np.ndarray, count: int) -> SliceTerm:
        """Positive factors, ``count`` a block, as exponents ±1: channel j of a block has the factor ``inside[j]``."""
        charges = self.blocks[:, None] * count + inside
        powers = np.broadcast_to(self.signs[:, None], charges.shape)
        return SliceTerm(self.view, charges.reshape(-1), self.slices.reshape(-1), powers.reshape(-1).astype(float))

    def entries(self, offset: int) -> GramBlocks:
        """Its part in the charges of all blocks: the upper triangles of their matrices, from ``offset`` on."""
        width = self.slices.shape[1]
        return GramBlocks(self.view, self.slices, offset + self.blocks * (width * (width + 1) // 2), self.signs)

    def traces(self, offset: int) -> SliceTerm:
        """Its part in the traces of these matrices, one a block: ± the energies of the block's channels."""
        width = self.slices.shape[1]
        charges, powers = np.repeat(offset + self.blocks, width), np.repeat(self.signs.astype(float), width)
        return SliceTerm(self.view, charges, self.slices.reshape(-1), powers)

    def positive(self) -> GramTerm:
        """The same channels with every sign +1: its Gram matrices are those of both sides together."""
        return GramTerm(self.view, self.slices, self.blocks, np.abs(self.signs))


def add_gram_(total: Float64[Tensor, "blocks width width"], term: GramTerm, a: Tensor, b: Tensor) -> None:
    """Adds one term's share of the symmetrised Σ sign·½(A Bᵀ + B Aᵀ) to the charge matrices ``total``."""
    index = torch.as_tensor(term.slices, device=a.device)
    left = term.channels(a)[index]
    # Re A Bᴴ is the inner product over the reals, in which complex entries count as two.
    product = left @ (left if a is b else term.channels(b)[index]).mH
    product = product.real if product.is_complex() else product
    # A Aᴴ is symmetric by itself, up to rounding.
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


def energies(terms: Sequence[GramTerm], blocks: int, a: Mapping[str, Tensor]) -> Float64[Tensor, "blocks width"]:
    """Σ |a|² of every channel of every block, over both sides: the diagonal of Σ A Aᵀ."""
    device = a[terms[0].view.parameter].device
    total = torch.zeros(blocks, terms[0].slices.shape[1], dtype=torch.float64, device=device)
    for term in terms:
        squares = term.channels(a[term.view.parameter]).abs().square().sum(-1)
        total.index_add_(
            0, torch.as_tensor(term.blocks, device=device), squares[torch.as_tensor(term.slices, device=device)]
        )
    return total


def act(term: GramTerm, tensor: Tensor, matrices: Float64[Tensor, "blocks width width"]) -> Tensor:
    """The tensor with its channels mixed by A (sign +1) or A⁻ᵀ (sign -1) of their block, in float64."""
    chosen = matrices[torch.as_tensor(term.blocks, device=matrices.device)]
    if (term.signs < 0).any():
        negative = torch.as_tensor(term.signs < 0, device=matrices.device)
        chosen = torch.where(negative[:, None, None], torch.linalg.inv(chosen).mT, chosen)
    return _mix(term, tensor, chosen, keep=True)


def infinitesimal(term: GramTerm, tensor: Tensor, matrices: Float64[Tensor, "blocks width width"]) -> Tensor:
    """d/dε of ``act`` with A = 1 + ε M at ε = 0: M θ (sign +1) or -Mᵀ θ (sign -1), zero outside the blocks."""
    chosen = matrices[torch.as_tensor(term.blocks, device=matrices.device)]
    negative = torch.as_tensor(term.signs < 0, device=matrices.device)
    return _mix(term, tensor, torch.where(negative[:, None, None], -chosen.mT, chosen), keep=False)


def _mix(term: GramTerm, tensor: Tensor, chosen: Tensor, *, keep: bool) -> Tensor:
    rows = term.channels(tensor)
    index = torch.as_tensor(term.slices, device=rows.device)
    out = rows.clone() if keep else torch.zeros_like(rows)
    out[index.reshape(-1)] = (chosen.to(rows.dtype) @ rows[index]).reshape(-1, rows.shape[1])
    return term.restore(out, tensor)


def gram_terms_to(terms: Iterable[GramTerm]) -> list[dict[str, Any]]:
    """Plain data (JSON); ``gram_terms_from`` is its inverse."""
    fields = ("slices", "blocks", "signs")
    return [{"view": asdict(t.view)} | {name: getattr(t, name).tolist() for name in fields} for t in terms]


def gram_terms_from(data: Iterable[Mapping[str, Any]]) -> tuple[GramTerm, ...]:
    """The terms that were written."""
    return tuple(
        GramTerm(view_from(t["view"]), integers(t["slices"]), integers(t["blocks"]), integers(t["signs"])) for t in data
    )
