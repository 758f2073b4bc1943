"""The passes over a program in their order: what every interpreter of a lowered model is given."""

from __future__ import annotations

from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.facts.stabilisers import stabilised
from neuralmechanics.symmetry.passes.joining.parts import with_whole_tensors
from neuralmechanics.symmetry.passes.normal_forms.one_hot import with_picked_entries
from neuralmechanics.symmetry.passes.normal_forms.plain_sums import with_plain_sums
from neuralmechanics.symmetry.passes.normal_forms.sigmoids import with_sigmoids
from neuralmechanics.symmetry.passes.normal_forms.signs import with_sign_functions
from neuralmechanics.symmetry.passes.normal_forms.undone_factors import with_undone_factors
from neuralmechanics.symmetry.passes.rewriting.expert_axis import with_expert_axis
from neuralmechanics.symmetry.passes.rewriting.needed_entries import only_needed_entries
from neuralmechanics.symmetry.passes.rewriting.softmaxes import with_softmaxes
from neuralmechanics.symmetry.passes.rewriting.squared_distances import with_squared_distances
from neuralmechanics.symmetry.passes.rewriting.summed_products import with_summed_products
from neuralmechanics.symmetry.passes.summing.exponents import with_added_exponents
from neuralmechanics.symmetry.passes.summing.stacked_sums import with_stacked_sums
from neuralmechanics.symmetry.passes.zeros.known_results import with_known_results
from neuralmechanics.symmetry.passes.zeros.zero_terms import without_zero_terms
from neuralmechanics.symmetry.program.program import Program

__all__ = ["rewritten"]


def rewritten(program: Program) -> Program:
    """The program after all passes; it computes the same."""
    picked = with_picked_entries(with_sigmoids(with_sign_functions(without_dead_values(program))))
    plain = with_plain_sums(with_undone_factors(with_stacked_sums(with_whole_tensors(picked))))
    live = with_known_results(with_softmaxes(with_added_exponents(plain)))
    summed = with_summed_products(without_zero_terms(stabilised(with_expert_axis(live))))
    # Last, for it puts takes between instructions, through which those before it would not see their patterns.
    return only_needed_entries(with_squared_distances(summed))
