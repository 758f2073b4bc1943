"""The charges of an action as sums over parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import GramBlocks, SliceTerm

__all__ = ["ChargeShare", "ChargeTerms"]


class ChargeShare(Protocol):
    """What one parameter adds to some charges."""

    @property
    def parameter(self) -> str: ...

    def add_(self, out: Float64[Tensor, " charges"], a: Tensor, b: Tensor) -> None:
        """Adds the parameter's part of ⟨a, M b⟩ where its charges stand in ``out``."""


@dataclass(frozen=True)
class ChargeTerms:
    """The charges of an action as sums over parameters, by how they are evaluated.

    ``sums``: mixes of slice sums Σ θ. ``products``: mixes of slice energies Σ θ². ``grams``: entries of Gram matrices
    of slices. ``shares``: whatever else. Where a charge is one of θ + c, ``offsets`` hold M c, of which it has twice
    the slice sums Σ (M c) θ beside its products, and ``constants`` what each element adds whatever θ: c M c.
    """

    sums: tuple[SliceTerm, ...] = ()
    products: tuple[SliceTerm, ...] = ()
    grams: tuple[GramBlocks, ...] = ()
    shares: tuple[ChargeShare, ...] = ()
    offsets: tuple[SliceTerm, ...] = ()
    constants: tuple[SliceTerm, ...] = ()

    def sizes(self) -> ChargeTerms:
        """Offsets and constants with |M| in the place of M."""
        positive = tuple(
            SliceTerm(o.view, o.charges, o.slices, o.coefficients * np.sign(c.coefficients))
            for o, c in zip(self.offsets, self.constants, strict=True)
        )
        constants = tuple(SliceTerm(c.view, c.charges, c.slices, np.abs(c.coefficients)) for c in self.constants)
        return ChargeTerms(offsets=positive, constants=constants)
