"""Bilinear sums over slices of tensors: the one hot loop behind every quadratic charge.

A *slice* is the set of all elements of a (reshaped) tensor whose indices along the kept dimensions are fixed. With
e[i] = Σ_{slice i} a·b, every diagonal quadratic charge is a sparse mix S·e(θ, θ), every drive S·e(d, d) or S·e(d, v)
and every residual S·e(g, θ); a translation charge is S·s(θ), with s the plain sums. One product in float64 serves all
views of a tensor, whatever the number of charges.
"""

from neuralmechanics.slices.blocks import AdamStep, Derived, Operand, first_of
from neuralmechanics.slices.grams import GramBlocks
from neuralmechanics.slices.jobs import Bilinear, Products, Recipe
from neuralmechanics.slices.mix import SliceMix
from neuralmechanics.slices.plan import ProductPlan
from neuralmechanics.slices.sums import slice_products, slice_sums, widened
from neuralmechanics.slices.views import SliceTerm, SliceView, spread

__all__ = [
    "AdamStep",
    "Bilinear",
    "Derived",
    "GramBlocks",
    "Operand",
    "ProductPlan",
    "Products",
    "Recipe",
    "SliceMix",
    "SliceTerm",
    "SliceView",
    "first_of",
    "slice_products",
    "slice_sums",
    "spread",
    "widened",
]
