"""One rule for each ATen operation, in terms of the primitives of ``neuralmechanics.symmetry.program.primitives``."""

# Importing a file registers its rules.
from neuralmechanics.symmetry.lowering.rules import (  # noqa: F401
    backward,
    contractions,
    elementwise,
    prims,
    products,
    recurrent,
)
from neuralmechanics.symmetry.lowering.rules.indices import embeddings, indexing, placing  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.rearranging import arrangements, diagonals, movement, padding  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.reducing import (  # noqa: F401
    losses,
    normalisations,
    order_statistics,
    reductions,
)
from neuralmechanics.symmetry.lowering.rules.registry import RULES, Rule, rule

__all__ = ["RULES", "Rule", "rule"]
