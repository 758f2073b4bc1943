"""Operations that say how far gradients pass, and do nothing to the numbers."""

from __future__ import annotations

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value

__all__ = ["NO_GRADIENT"]

NO_GRADIENT = torch.ops.aten.detach.default  # how a graph says that no gradient passes: torch's own word for it


@rule("detach")
def detached(d: Builder, node: fx.Node, x: Value) -> Value:
    """The value sees x and the gradient does not: no symmetry may move it."""
    if not x.depends:
        return x
    raise NotSoughtError("the value is detached: no gradient passes", hides=True)
