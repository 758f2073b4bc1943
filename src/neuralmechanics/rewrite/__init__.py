"""Using symmetries: a model rewritten exactly, checkpoints compared modulo all symmetries, maps for other tools."""

from neuralmechanics.rewrite.actions import (
    Certificate,
    RewriteError,
    Rewritten,
    centre,
    equalise,
    fold,
    in_turn,
    input_sizes,
    permute,
    rotate,
    smooth,
    untie,
    why_not,
)
from neuralmechanics.rewrite.files import rewrite_checkpoint
from neuralmechanics.rewrite.maps import (
    awq_mappings,
    check_mappings,
    permutation_spec,
    smoothquant_mappings,
    spinquant_mapping,
    symmetry_map,
)

__all__ = [
    "Certificate",
    "RewriteError",
    "Rewritten",
    "awq_mappings",
    "centre",
    "check_mappings",
    "equalise",
    "fold",
    "in_turn",
    "input_sizes",
    "permutation_spec",
    "permute",
    "rewrite_checkpoint",
    "rotate",
    "smooth",
    "smoothquant_mappings",
    "spinquant_mapping",
    "symmetry_map",
    "untie",
    "why_not",
]
