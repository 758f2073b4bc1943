"""Hessian products by two reverse passes.

Every second derivative is taken in ``functional.derivatives``, which knows where torch's own are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.functional.derivatives.autograd_graph import handwritten
from neuralmechanics.functional.derivatives.higher_derivatives import derivatives, record_gradient

__all__ = ["GradientGraph", "gradient_graph"]

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class GradientGraph:
    """The gradient at θ, still attached to θ: each Hessian product costs one backward pass more.

    ``handwritten``: the functions on the way whose backward pass may not be differentiable, though nothing says so.
    """

    leaves: Tensors
    gradients: Tensors
    handwritten: tuple[str, ...] = ()

    def product(self, direction: Mapping[str, Tensor]) -> Tensors:
        """H ξ over all parameters, by ∂⟨g, ξ⟩/∂θ with ξ held fixed.

        >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64)
        >>> graph = gradient_graph(lambda p: (p["x"] ** 3).sum(), {"x": x})
        >>> graph.product({"x": torch.ones(2)})["x"].tolist()
        [6.0, 12.0]
        """
        total = torch.zeros((), dtype=torch.float64)
        for name, step in direction.items():
            g = self.gradients[name]
            # Parameters of one model may lie on several devices; the sum follows them.
            total = total.to(g.device) + (g * step.detach().to(g)).sum().double()
        return dict(zip(self.leaves, derivatives(total, list(self.leaves.values()), graph=False), strict=True))

    @cached_property
    def values(self) -> tuple[Tensors, Tensors]:
        """θ and the gradient, detached from each other."""
        parts = (self.leaves, self.gradients)
        leaves, gradients = ({name: t.detach() for name, t in part.items()} for part in parts)
        return leaves, gradients

    @cached_property
    def gain(self) -> float:
        """|H r| of a random direction r of length one."""
        draw = torch.Generator().manual_seed(1)
        direction = {n: torch.randn(p.shape, generator=draw, dtype=torch.float64) for n, p in self.leaves.items()}
        length = math.sqrt(sum(float(r.square().sum()) for r in direction.values()))
        made = self.product({name: r.to(self.leaves[name]) for name, r in direction.items()})
        return math.sqrt(sum(float(h.double().square().sum()) for h in made.values())) / length


def gradient_graph(objective: Callable[[Mapping[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> GradientGraph:
    """The gradient of ``objective`` at ``params``, ready for Hessian products.

    Raises NoDerivativeError where an operation is known to have no second derivative, or a wrong one.
    """
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    loss, parts = record_gradient(lambda: objective(leaves), list(leaves.values()), 2)
    return GradientGraph(leaves, dict(zip(leaves, parts, strict=True)), handwritten(loss))
