"""Whether a rewrite has left the function as it was: outputs before and after, and the bound that rounding gives."""

from neuralmechanics.rewrite.actions.certificate.certificate import Certificate, Comparison, RewriteError
from neuralmechanics.rewrite.actions.certificate.certify import Piece, certified
from neuralmechanics.rewrite.actions.certificate.evaluation import Evaluation

__all__ = ["Certificate", "Comparison", "Evaluation", "Piece", "RewriteError", "certified"]
