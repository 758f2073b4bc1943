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

__all__ = [
    "Certificate",
    "RewriteError",
    "Rewritten",
    "centre",
    "equalise",
    "fold",
    "in_turn",
    "input_sizes",
    "permute",
    "rotate",
    "smooth",
    "untie",
    "why_not",
]
