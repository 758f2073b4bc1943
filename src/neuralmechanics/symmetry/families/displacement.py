"""Charges of parameters that are counted from another point than zero, beside their part that is quadratic in θ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceMix
from neuralmechanics.symmetry.families.actions import ChargeTerms

__all__ = ["Displacement"]


@dataclass(frozen=True, eq=False)
class Displacement:
    """What charges of θ + c are beside ⟨θ, Mθ⟩: twice ⟨θ, Mc⟩, a mix of slice sums, and ⟨c, Mc⟩."""

    mix: SliceMix
    constants: Float64[Tensor, " charges"]

    @classmethod
    def of(cls, parts: Iterable[ChargeTerms], charges: int) -> Displacement:
        """That of all charges together."""
        parts = list(parts)
        terms = [term for part in parts for term in part.constants]
        if not terms:  # one zero that stands for all
            none = torch.zeros(1, dtype=torch.float64).expand(charges)
            return cls(SliceMix(charges, [t for part in parts for t in part.offsets]), none)
        constants = np.zeros(charges)
        for term in terms:
            # A coefficient stands for a slice, and c M c is a sum over its elements.
            each = math.prod(term.view.shape) // max(term.view.size, 1)
            np.add.at(constants, term.charges, term.coefficients * each)
        return cls(SliceMix(charges, [t for part in parts for t in part.offsets]), torch.from_numpy(constants))

    def sums(self, a: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, Mc⟩; parameters that are not given add nothing."""
        out = torch.zeros(len(self.constants), dtype=torch.float64)
        for name in self.mix.parameters:
            if name in a:
                part = torch.zeros(len(out), dtype=torch.float64, device=a[name].device)
                self.mix.add_sums_(part, name, a[name])
                out = out.to(part.device) + part
        return out

    def completed(self, pair: Tensor, sums: Tensor) -> Float64[Tensor, " charges"]:
        """⟨θ + c, M(θ + c)⟩ from ⟨θ, Mθ⟩ and ⟨θ, Mc⟩."""
        return pair + 2 * sums.to(pair.device) + self.constants.to(pair.device)
