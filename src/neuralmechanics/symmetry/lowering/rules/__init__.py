"""One rule for each ATen operation, in terms of the primitives of ``neuralmechanics.symmetry.program.primitives``."""

from neuralmechanics.symmetry.lowering.rules import (  # noqa: F401  (importing registers the rules)
    arrangements,
    backward,
    contractions,
    diagonals,
    elementwise,
    embeddings,
    indexing,
    losses,
    movement,
    normalisations,
    order_statistics,
    padding,
    placing,
    prims,
    products,
    recurrent,
    reductions,
)
from neuralmechanics.symmetry.lowering.rules.registry import RULES, Rule, rule

__all__ = ["RULES", "Rule", "rule"]
