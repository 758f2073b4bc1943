"""Using symmetries: a model rewritten exactly, checkpoints compared modulo all symmetries, maps for other tools."""

from neuralmechanics.rewrite.actions import (
    Certificate,
    RewriteError,
    Rewritten,
    fold,
    permute,
    rotate,
    untie,
)

__all__ = ["Certificate", "RewriteError", "Rewritten", "fold", "permute", "rotate", "untie"]
