"""Hessian products by two reverse passes, and the two terms of the Hessian constraint.

Every second derivative is taken in ``functional.higher_derivatives``, which knows where torch's own are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.functional.autograd_graph import handwritten
from neuralmechanics.functional.higher_derivatives import derivatives, record_gradient
from neuralmechanics.symmetry.affine import AffineTerm
from neuralmechanics.symmetry.family import Family

__all__ = ["GradientGraph", "adjoint", "gradient_graph", "second_derivative"]

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
            total = total.to(g.device) + (g * step.detach().to(g)).sum().double()
        return dict(zip(self.leaves, derivatives(total, list(self.leaves.values()), graph=False), strict=True))

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
