"""One rule for each ATen operation, in terms of the primitives of ``neuralmechanics.symmetry.program.primitives``."""

# Importing a file registers its rules.
from neuralmechanics.symmetry.lowering.rules import (  # noqa: F401
    arithmetic,
    backward,
    elementwise,
    gradients,
    masks,
    prims,
)
from neuralmechanics.symmetry.lowering.rules.contracting import (  # noqa: F401
    attention,
    contractions,
    convolutions,
    fourier,
    products,
    square_matrices,
)
from neuralmechanics.symmetry.lowering.rules.indices import embeddings, indexing, packing, placing  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.rearranging import (  # noqa: F401
    arrangements,
    complex_parts,
    diagonals,
    movement,
    padding,
    pieces,
)
from neuralmechanics.symmetry.lowering.rules.recurrent import cells, layers, rectified  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.reducing import (  # noqa: F401
    angles,
    lengths,
    losses,
    normalisations,
    order_statistics,
    reductions,
)
from neuralmechanics.symmetry.lowering.rules.registry import RULES, Rule, rule

__all__ = ["RULES", "Rule", "rule"]
