"""Whether ⟨g,ξ⟩ cancels as a symmetry of the loss makes it: to the digits that the gradient was computed with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.monitor.processes.portion import Energies, Portion
from neuralmechanics.symmetry import Family, Symmetries

# A norm's eps leaves eps/(σ² + eps) of the work that its output does in ⟨g,ξ⟩. Variances down to a thousandth, and at
# most a tenth of |g||ξ|, are taken for what was meant by an eps.
_SMALLEST_VARIANCE, _LARGEST_SHARE = 1e-3, 0.1
# Smallest normal numbers that products in a backward pass may have lost, over the digits that ρ is asked to have.
_UNDERFLOW = 1e8
# Roundings of a backward pass that a gradient may hold of what cancelled before it: a few, with the depth to spare.
_INHERITED = 32
_PIECE = 1 << 14


class Cancellation:
    """Compares the residual ρ = ⟨g,ξ⟩ with |g||ξ| in units of the precision u that the gradient was computed in.

    Rounding leaves |ρ| ≤ K u |g||ξ|, where K grows with the depth and the width of the network and with what cancels
    inside g itself. Half of the digits are left to K: ρ is no rounding beyond √u |g||ξ|, which is 1.5e-8 in float64,
    3.5e-4 in float32, .09 in bfloat16. |g||ξ| is the largest of the run: g dies out as training converges, its
    rounding does not. A charge of a single element has no g beside its ρ (a bias before batch norm); the largest
    element of all gradients stands in for it there. Where a norm's eps breaks a family, 1000 eps (at most .1) of
    |g||ξ| are left to it, and the family is judged as a whole.

    Charges of one family are read off one product δᵀh, and δ holds roundings from before its own terms cancelled:
    softmax minus target is rounded like 1, however well a sample is classified. A charge whose h sees such samples
    alone has a |g| of cancelled terms and a ρ of their roundings; u times the largest |g||ξ| of its family in the run
    bounds them.
    """

    def __init__(
        self, symmetries: Symmetries, single: Bool[Tensor, " charges"], portion: Portion, energies: Energies
    ) -> None:
        self._energies = energies
        self._portion = portion
        self._symmetries = symmetries
        self._quadratic = symmetries.quadratic
        self._single = np.packbits(single.cpu().numpy())  # seldom asked for
        # One a family: what is kept of each charge is kept of very many.
        self._shares = torch.tensor([share_of_constants(f) for f in symmetries.charged], dtype=torch.float64)
        self._counts = torch.tensor([family.charges for family in symmetries.charged], dtype=torch.int64)
        self._bound = torch.zeros(len(symmetries.labels), dtype=torch.float64)
        self._by_family: Tensor | None = None

    def broken(
        self,
        residual: Float64[Tensor, " charges"],
        gradients: Mapping[str, Tensor],
        params: Mapping[str, Tensor],
        u: float,
        followed: Bool[Tensor, " charges"],
    ) -> Bool[Tensor, " charges"]:
        """Where ρ is more than rounding among the charges that are followed. Reads values: for records alone."""
        ρ = residual.detach().cpu().abs()
        if self._all_inherited(ρ, u):
            return torch.zeros_like(followed)
        found = self.whole_families(ρ > self._largest(u)) & followed
        # Sizes cost a pass over gradients and parameters: asked for when the largest known ones object.
        if bool(found.any()):
            self.look(gradients, params)
            found = self.whole_families(ρ > self._largest(u)) & followed
        return found

    def _all_inherited(self, ρ: Tensor, u: float) -> bool:
        """Whether every residual is within the roundings that gradients inherit: nearly always, one look a family."""
        if not len(self._counts):
            return not len(ρ)
        largest = torch.segment_reduce(ρ, "max", lengths=self._counts)  # nan where one is, which no bound holds
        return bool((largest <= self._inherited_by_family(u)).all())

    def sound(self, least: float) -> Bool[Tensor, " charges"]:
        """Where constants leave less than a share of |g||ξ|."""
        return (self._shares < least).repeat_interleave(self._counts)

    def look(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
        """Take in the sizes that these gradients give |g||ξ|."""
        self._bound = torch.maximum(self._bound, self._natural(gradients, params))
        self._by_family = None

    def allowed(self, u: float) -> Float64[Tensor, " charges"]:
        """What roundings of gradients may do to charges, in units of η/(1-β) summed over the steps: 2ρ, shifts ρ."""
        return torch.where(self._quadratic, 2.0, 1.0) * self._inherited(u)

    def _largest(self, u: float) -> Tensor:
        """The largest residual that is taken for rounding."""
        share = self._shares.clamp(min=u**0.5).repeat_interleave(self._counts)
        return torch.maximum(share.mul_(self._bound), self._inherited(u))

    def _inherited(self, u: float) -> Tensor:
        """The roundings that gradients hold from before their terms cancelled."""
        return self._inherited_by_family(u).repeat_interleave(self._counts)

    def _inherited_by_family(self, u: float) -> Float64[Tensor, " families"]:
        """The same, one a family: they change only when sizes are looked at."""
        if self._by_family is None:
            bound = self._bound
            largest = torch.segment_reduce(bound, "max", lengths=self._counts) if len(self._counts) else bound
            self._by_family = largest.clamp(min=0.0)
        return _INHERITED * u * self._by_family

    def whole_families(self, beyond: Tensor) -> Tensor:
        """A family that its eps breaks anyway is broken as a whole: single charges may lie below the bound by luck."""
        out = beyond.clone()
        offsets = self._symmetries.offsets
        for family, begin, end in zip(self._symmetries.charged, offsets, offsets[1:], strict=False):
            if not family.exact and bool(beyond[begin:end].any()):
                out[begin:end] = True
        return out

    def _natural(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        """|g||ξ| of every charge: |g_A||θ_A| weighted by exponents, |g_A|√n for a translation."""
        names = self._symmetries.parameters
        there = {name: params[name].detach() for name in names}
        slopes = {n: gradients[n].detach() if n in gradients else torch.zeros_like(there[n]) for n in names}
        own = self._portion.sizes(there, energies=self._energies).cpu()
        of_slopes = self._portion.sizes(slopes, energies=self._energies, of_tangents=True).cpu()
        bound = torch.where(self._quadratic, (own * of_slopes).sqrt(), of_slopes)
        largest = max((float(g.abs().max()) for g in slopes.values() if g.numel()), default=0.0)
        largest = float(self._portion.largest(torch.tensor(largest, dtype=torch.float64)))
        reach = torch.where(self._quadratic, own.sqrt(), 1.0)
        single = torch.from_numpy(np.unpackbits(self._single, count=len(bound)).view(np.bool_))
        bound = torch.where(single, torch.maximum(bound, reach * largest), bound)
        # What underflows loses all its digits.
        tiny = max((float(torch.finfo(p.dtype).tiny) for p in there.values()), default=0.0)
        return torch.maximum(bound, reach * tiny * _UNDERFLOW)


def share_of_constants(family: Family) -> float:
    """What is left of |g||ξ| to the constants that break a family: 0 where it is exact."""
    return min(max((c.value for c in family.broken_by), default=0.0) / _SMALLEST_VARIANCE, _LARGEST_SHARE)


def in_low_precision(gradients: Mapping[str, Tensor]) -> torch.dtype | None:
    """The type that float32 gradients were rounded to on their way, told from bits that are all zero.

    Autocast computes the gradient of a weight in half precision and only then widens it. None when no gradient of a
    matrix shows it; those of vectors may have few digits by cancellation (a bias before batch norm).
    """
    for gradient in gradients.values():
        if gradient.dtype != torch.float32 or gradient.dim() < 2 or gradient.numel() < 64:
            continue
        bits = gradient.detach().cpu().contiguous().numpy().view(np.uint32).reshape(-1)
        if not bits.any():
            continue
        for mask, dtype in ((0xFFFF, torch.bfloat16), (0x1FFF, torch.float16)):
            if not _any_set(bits, np.uint32(mask)):
                return dtype
    return None


def _any_set(bits: np.ndarray, mask: np.uint32) -> bool:
    """Whether any element has a bit of the mask, looked at a piece at a time: the first piece mostly tells."""
    return any((bits[k : k + _PIECE] & mask).any() for k in range(0, len(bits), _PIECE))
