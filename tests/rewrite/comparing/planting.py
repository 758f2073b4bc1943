"""Random elements of a whole symmetry group, all kinds mixed, and what they make of a network's parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neuralmechanics import Symmetries
from neuralmechanics.rewrite.comparing import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, Step, space_steps


def planted(symmetries: Symmetries, seed: int, amount: float = 0.4) -> Element:
    """An element of every exact family and of every space, one after another."""
    draw = torch.Generator().manual_seed(seed)
    steps: list[Step] = []
    for family in symmetries:
        if family.exact:
            steps += [FamilyStep(family, chosen) for _, chosen in family.action.random_elements(amount, draw)]
    for space in symmetries.spaces:
        steps += space_steps(space, space.random_element(draw))
    return Element(tuple(steps))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of parameters and of floating-point buffers."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach().clone() for name, value in named.items() if value.is_floating_point()}


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """‖a - b‖ / ‖a‖ over all tensors, by hand."""
    gap = sum(float((a[n] - b[n]).double().square().sum()) for n in a)
    return (gap / sum(float(a[n].double().square().sum()) for n in a)) ** 0.5
