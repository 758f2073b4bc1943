"""The cosine of the angle between vectors."""

from __future__ import annotations

import numpy as np
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand
from neuralmechanics.symmetry.lowering.rules.reducing.normalisations import eps_of
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


@rule("cosine_similarity")
def cosine_similarity(d: Builder, node: fx.Node, x: Value, y: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """Of vectors along ``dim`` of the tensors broadcast to one shape, none of them taken as shorter than ``eps``."""
    full = np.broadcast_shapes(x.shape, y.shape)
    dim %= len(full)
    bounded = function_of("normalize", lambda x: x / x.norm(dim=dim, keepdim=True).clamp_min(eps), settings=(dim, eps))
    x, y = (expand(d, v, full) if v.shape != full else v for v in (x, y))
    return cosine(d, node, x, y, dim, eps, bounded)


def cosine(
    d: Builder, node: fx.Node, x: Value, y: Value, dim: int, eps: float, function: Function | None = None
) -> Value:
    """The cosine of the angle between vectors along ``dim``."""
    x, y = (d.normalise(v, (dim,), False, eps_of(node, eps), False, function) for v in (x, y))
    return d.reduce(d.mul(x, y), (dim,), False, False)
