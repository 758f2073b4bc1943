"""The element after which the network half way between two is best: descent through nearest elements of the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import Solver

__all__ = ["Objective", "descended"]

Objective = Callable[[Mapping[str, Tensor]], tuple[float, Mapping[str, Tensor]]]
"""What half way is to be small, and its gradient, at the parameters given."""

_RATE = 0.1  # of Adam, in units of the root mean square of each tensor
_BETAS = (0.9, 0.99)


def descended(
    network: Network, a: Mapping[str, Tensor], b: Mapping[str, Tensor], objective: Objective, steps: int
) -> tuple[Element, float]:
    """The isometry g of the network's group at which ``objective`` of (a + g·b)/2 is least on the way, and its value.

    A target c starts at a. In each step g becomes the element that brings b nearest to c, by one sweep over all parts
    of the group, and c moves by Adam with the gradient at (a + g·b)/2, as though g·b were free: git re-basin's
    straight-through estimator (Ainsworth, Hayase & Srinivasa 2023), with rotations and matrices beside permutations.
    The identity is the first that is tried, so that the answer is never worse than b as it is.
    """
    solver = Solver(network, frozenset(), a, b, free=False)
    solver.hold_all()
    target = {name: value.clone().requires_grad_() for name, value in a.items()}
    sizes = {name: float(value.square().mean().sqrt()) if value.numel() else 0.0 for name, value in a.items()}
    groups = [{"params": [value], "lr": _RATE * sizes[name]} for name, value in target.items()]
    optimizer = torch.optim.Adam(groups, betas=_BETAS)
    best, element = float("inf"), Element()
    for step in range(steps + 1):
        if step:
            solver.a = {name: value.detach() for name, value in target.items()}
            solver.sweep()
        found, gradients = objective({name: (value + solver.b[name]) / 2 for name, value in a.items()})
        if found < best:
            best, element = found, Element(tuple(solver.steps))
        for name, value in target.items():
            value.grad = gradients[name] if name in gradients else torch.zeros_like(value)
        optimizer.step()
    return Element().compose(element), best
