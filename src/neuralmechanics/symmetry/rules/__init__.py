"""One rule for each ATen operation, in terms of the primitives of ``neuralmechanics.symmetry.domain``."""

from neuralmechanics.symmetry.rules import (  # noqa: F401  (importing registers the rules)
    backward,
    contractions,
    elementwise,
    embeddings,
    indexing,
    losses,
    normalisations,
    recurrent,
    reductions,
    views,
)
from neuralmechanics.symmetry.rules.registry import RULES, Rule, rule

__all__ = ["RULES", "Rule", "rule"]
