"""The adjoint of a generator's derivative where no closed form is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.action import Tensors

__all__ = ["adjoint_by_differentiation"]


def adjoint_by_differentiation(
    generator: Callable[[Tensors], Tensors],
    names: Iterable[str],
    gradients: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
) -> Tensors:
    """(∂ξ/∂θ)ᵀ g by differentiating ⟨g, ξ(θ)⟩ with respect to the named parameters, in float64.

    >>> p, g = torch.tensor([3.0]), torch.tensor([1.0])
    >>> adjoint_by_differentiation(lambda q: {"x": q["x"] ** 2}, ["x"], {"x": g}, {"x": p})["x"].tolist()
    [6.0]
    """
    leaves = {name: params[name].detach().double().requires_grad_() for name in dict.fromkeys(names)}
    with torch.enable_grad():
        parts = [(gradients[name].double() * step).sum() for name, step in generator(leaves).items()]
        total = torch.stack(parts).sum()
    if not total.requires_grad:
        return {}
    derivatives = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, derivatives, strict=True))
