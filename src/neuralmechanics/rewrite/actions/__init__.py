"""Actions on a model: new tensors that compute the same, and a certificate; what cannot be proved is refused."""

from neuralmechanics.rewrite.actions.centring import centre
from neuralmechanics.rewrite.actions.certificate import Certificate, Comparison, RewriteError
from neuralmechanics.rewrite.actions.composing import in_turn
from neuralmechanics.rewrite.actions.equalising import equalise
from neuralmechanics.rewrite.actions.folding import fold
from neuralmechanics.rewrite.actions.permuting import permute
from neuralmechanics.rewrite.actions.refusing import why_not
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.actions.rotating import rotate
from neuralmechanics.rewrite.actions.smoothing import input_sizes, smooth
from neuralmechanics.rewrite.actions.untying import untie

__all__ = [
    "Certificate",
    "Comparison",
    "Refusal",
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
