"""The two terms of the Hessian constraint: the adjoint of ∂ξ/∂θ, and ∂²ψ/∂t² at the identity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.affine_shift import AffineTerm
from neuralmechanics.symmetry.families.family import Family

__all__ = ["adjoint", "second_derivative"]

Tensors = dict[str, Tensor]


def adjoint(
    family: Family, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor] | None = None
) -> Tensors:
    """(∂ξ/∂θ)ᵀ g: zero for translations, M g for scalings, Mᵀ g for linear blocks, -g ⊗ u for affine pairs.

    For rotations and shears, which gains at ``params`` enter, by differentiating ⟨g, ξ(θ)⟩.
    """
    if family.gauge is not None:
        params = _given(family, params)
        names = dict.fromkeys((*family.gauge.parameters, *family.gauge.gains))
        leaves = {name: params[name].detach().double().requires_grad_() for name in names}
        moved = family.gauge.generator(leaves, weights)
        total = sum((gradients[name].double() * step).sum() for name, step in moved.items())
        if not (isinstance(total, Tensor) and total.requires_grad):
            return {}
        parts = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, parts, strict=True))
    if family.complex:
        return family.generator(gradients, weights * torch.tensor([1.0, -1.0], dtype=weights.dtype))
    if family.grams:
        return family.generator(gradients, weights.mT)
    if family.quadratic:
        return family.generator(gradients, weights)
    out: Tensors = {}
    for term in family.affine:
        _add_absorbed_(out, term, gradients, weights)
    return out


def _add_absorbed_(out: Tensors, term: AffineTerm, gradients: Mapping[str, Tensor], weights: Tensor) -> None:
    """Adds the derivative of ⟨g, -M u⟩ with respect to the weight that M is made of."""
    name, view = term.weight.parameter, term.weight
    like = gradients[name]
    first, second = (view.shape[d] for d in view.kept)
    amount = weights[torch.as_tensor(term.generators)] * torch.as_tensor(term.coefficients, dtype=torch.float64)
    shift = torch.zeros(second if term.output_first else first, dtype=torch.float64)
    shift.index_add_(0, torch.as_tensor(term.inputs), amount.double())
    answer, shift = gradients[term.absorber].double().reshape(-1), shift.to(like.device)
    outer = -torch.outer(answer, shift) if term.output_first else -torch.outer(shift, answer)
    step = outer.reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])
    step = step.expand(view.shape).reshape(like.shape).to(like.dtype)
    out[name] = out[name] + step if name in out else step


def second_derivative(
    family: Family, generator: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor] | None = None
) -> Tensors:
    """∂²ψ/∂t² at the identity of the one-parameter group t ↦ exp(tM): M ξ; zero for translations and affine pairs.

    A rotation is linear in what it moves; the gains that enter it, at ``params``, stay.
    """
    if not family.quadratic:
        return {}
    if family.gauge is not None:
        params = _given(family, params)
        return family.generator({**{name: params[name] for name in family.gauge.gains}, **generator}, weights)
    return family.generator(generator, weights)


def _given(family: Family, params: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    if params is None:
        raise ValueError(f"family {family.name!r}: its generator depends on gains; pass the parameters as params")
    return params
