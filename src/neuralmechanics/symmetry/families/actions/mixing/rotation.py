"""Rotations of a space of channels, and mixings through gains: gauge transformations, which have no charge.

Their generators have no gradient form, so that they constrain gradients and conserve nothing: a rotation's matrix is
antisymmetric, and a gain between a norm and its readers turns up inverted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.symmetry.families.actions.action import (
    Action,
    Form,
    PointNeededError,
    Tensors,
    accumulate,
    detached,
)
from neuralmechanics.symmetry.families.actions.mixing.rotation_matrices import (
    ALLOWED,
    Group,
    antisymmetric,
    departure,
    require_apart,
    without_ones,
)
from neuralmechanics.symmetry.families.actions.terms.gain import adjoint_by_differentiation, living
from neuralmechanics.symmetry.families.actions.terms.rotation_terms import RotationTerm

__all__ = ["Rotation"]


@dataclass(frozen=True)
class Rotation(Action):
    """One matrix A = exp(M) for all channels of a space, or one for each of its ``copies`` (heads).

    ``group``: "orthogonal", M antisymmetric; "centred", those with M·1 = 0; "general", M with a zero diagonal (the
    diagonal ones are rescalings); "blind", M = 1·vᵀ, which a centring norm removes; "paired", antisymmetric within the
    ``pairs``, which a rotary embedding turns. ``taken``: with biases β of norms among the terms, biases b that stand in
    sums where what β gains is taken back, so that β + b stays as it is.

    Where a gain is zero only what keeps its channels from all others exists: of what a reader no longer sees, nothing
    can be turned into what it sees. Other generators move nothing there, and other matrices are refused.
    """

    linear: ClassVar[bool] = True
    terms: tuple[RotationTerm, ...]
    width: int
    group: Group = "orthogonal"
    pairs: tuple[tuple[int, int], ...] = ()
    copies: tuple[int, ...] = ()
    taken: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Number of generators."""
        return math.prod(self.copies) * self._each

    @property
    def _each(self) -> int:
        """Number of generators of one copy."""
        n = self.width
        sizes = {"orthogonal": n * (n - 1) // 2, "centred": (n - 1) * (n - 2) // 2, "general": n * (n - 1), "blind": n}
        return sizes.get(self.group, len(self.pairs))

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a generator: the entries of M that are free."""
        return (self.size,)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return tuple(dict.fromkeys((*(t.parameter for t in self.terms), *(bias for _, bias in self.taken))))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the gains."""
        return tuple(dict.fromkeys(gain.parameter for t in self.terms for gain, _ in t.dressing))

    @property
    def gains(self) -> tuple[str, ...]:
        """The same."""
        return self.inputs

    @property
    def compact(self) -> bool:
        """Whether M is antisymmetric."""
        return self.group in ("orthogonal", "centred", "paired")

    @property
    def along_ones(self) -> bool:
        """Whether M is 1·vᵀ."""
        return self.group == "blind"

    @property
    def channels(self) -> int:
        """Those of a matrix."""
        return self.width

    @property
    def turns(self) -> int:
        """One a pair of each copy."""
        return self.size if self.group == "paired" else 0

    @property
    def matrix_group(self) -> str:
        """Empty for pairs and for M = 1·vᵀ, which no space has."""
        return {
            "orthogonal": "orthogonal",
            "centred": "ones-preserving orthogonal",
            "general": "general linear",
        }.get(self.group, "")

    @property
    def legs(self) -> tuple[RotationTerm, ...]:
        """All its terms, where one matrix acts along whole dimensions."""
        whole = not self.copies and not self.taken and all(term.place is None for term in self.terms)
        return self.terms if whole else ()

    def matrix(self, weights: Float64[Tensor, " size"]) -> Float64[Tensor, "*copies width width"]:
        """M of the weights, one for each copy.

        >>> Rotation((), 2).matrix(torch.tensor([1.0], dtype=torch.float64)).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
        """
        n, weights = self.width, weights.reshape(*self.copies, self._each)
        if self.group == "blind":
            return weights[..., None, :].expand(*self.copies, n, n)
        if self.group == "general":
            out = weights.new_zeros(*self.copies, n, n)
            out[..., ~torch.eye(n, dtype=torch.bool, device=weights.device)] = weights
            return out
        if self.group == "orthogonal":
            return antisymmetric(weights, n)
        if self.group == "paired":
            first, second = torch.tensor(self.pairs, device=weights.device).T
            half = weights.new_zeros(*self.copies, n, n)
            half[..., first, second] = weights
            return half - half.mT
        basis = without_ones(n).to(weights.device)
        centred: Tensor = basis @ antisymmetric(weights, n - 1) @ basis.mT
        return centred

    def read_element(self, given: float | Tensor, device: torch.device) -> Tensor:
        """Weights, or a matrix A of the group itself, of shape [width, width] and with any determinant but zero.

        Where there are copies, one for all of them or one for each.
        """
        matrix = torch.as_tensor(given, dtype=torch.float64, device=device)
        full = (*self.copies, self.width, self.width)
        if tuple(matrix.shape) not in (full[-2:], full):
            return self.read_weights(matrix, device)
        off, law = departure(matrix, self.group, self.pairs)
        # Not ``off > ALLOWED``, which is false for nan.
        if not off <= ALLOWED:
            raise ValueError(
                f"the matrix given is off by {off:.1e} from {law}, at most {ALLOWED:g} is allowed; make it in float64"
            )
        return matrix.expand(full)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """D M D⁻¹ θ, or -D Mᵀ D⁻¹ θ, along the dimensions of the terms."""
        steps = self._steps(detached(params, (*self.parameters, *self.inputs)), weights)
        return {name: step.to(params[name].dtype) for name, step in steps.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """D A D⁻¹ θ, or D A⁻ᵀ D⁻¹ θ, with A = exp M where the element is given by its weights."""
        kept = self._kept(params, element)
        forward = element if element.ndim >= 2 else torch.linalg.matrix_exp(self.matrix(element) * kept)
        if self.inputs and element.ndim >= 2:
            require_apart(forward, kept, tuple(pair for term in self.terms for pair in term.dressing))
        backward = torch.linalg.inv(forward).mT if any(t.dual for t in self.terms) else forward
        out = detached(params, (*self.parameters, *self.inputs))
        for term in self.terms:
            chosen = backward if term.dual else forward
            out[term.parameter] = term.acted(out, chosen, self.copies, out[term.parameter])
        for name, bias in self.taken:
            gained = out[name] - params[name].detach().double()
            out[bias] = out[bias] - gained.reshape(out[bias].shape)
        return dict(params) | {name: out[name].to(params[name].dtype) for name in self.parameters}

    def inverse(self, element: Tensor) -> Tensor:
        """-w of weights, A⁻¹ of a matrix."""
        return -element if element.ndim < 2 else torch.linalg.inv(element)

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """With A⁻ᵀ; through gains, on which J depends, gradients are not carried along."""
        # J has a part ∂ψ/∂γ where gains enter the matrix, and the gains' own gradients would change as well.
        if self.inputs:
            raise PointNeededError("fold the gains first")
        given = self.read_element(element, element.device)
        matrix = given if given.ndim >= 2 else torch.linalg.matrix_exp(self.matrix(given))
        return self.transform(gradients, torch.linalg.inv(matrix).mT)

    def units(self, form: Form) -> Iterator[Tensor]:
        """Antisymmetric in the parameters too where no gain lies between; else of no form of its own."""
        isometric = self.compact and not self.inputs
        yield from (
            torch.eye(self.size, dtype=torch.float64) if form == ("antisymmetric" if isometric else "other") else ()
        )

    def random_weights(self, generator: torch.Generator) -> Tensor:
        """Normal, of a size for which M has unit size."""
        noise: Tensor = torch.randn(self.size, generator=generator, dtype=torch.float64) / self.width**0.5
        return noise

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal weights."""
        yield "turn", amount * torch.randn(self.size, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """A half: exp(M/2) of a matrix of unit size."""
        return 0.5

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """By differentiating ⟨g, ξ⟩, which depends on the gains too."""
        names = (*self.parameters, *self.inputs)
        return adjoint_by_differentiation(lambda p: self._steps(p, weights), names, gradients, params)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """The generator at ξ, with the gains of θ."""
        return self.generator({**detached(params, self.inputs), **xi}, weights)

    def to_dict(self) -> dict[str, Any]:
        """The terms, the width and the group, as a gauge; pairs and copies where there are any."""
        fields = {"terms": [term.to_dict() for term in self.terms], "width": self.width, "group": self.group}
        fields |= {"pairs": [list(pair) for pair in self.pairs]} if self.pairs else {}
        fields |= {"copies": list(self.copies)} if self.copies else {}
        fields |= {"taken": [list(pair) for pair in self.taken]} if self.taken else {}
        return {"gauge": {"type": "turn"} | fields}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rotation:
        """The action that was written."""
        gauge = data["gauge"]
        terms = tuple(RotationTerm.from_dict(term) for term in gauge["terms"])
        pairs = tuple((int(i), int(j)) for i, j in gauge.get("pairs", ()))
        taken = tuple((str(name), str(bias)) for name, bias in gauge.get("taken", ()))
        return cls(terms, gauge["width"], gauge["group"], pairs, tuple(gauge.get("copies", ())), taken)

    def _kept(self, params: Mapping[str, Tensor], like: Tensor) -> Bool[Tensor, "width width"]:
        """Entries of M that may differ from zero: none between a channel whose gain is zero here and others."""
        kept = torch.ones(self.width, self.width, dtype=torch.bool, device=like.device)
        for dressing in dict.fromkeys(term.dressing for term in self.terms if term.dressing):
            alive = living(dressing, params, like)
            # A matrix that keeps 1, or adds multiples of it, mixes all channels.
            alike = alive[..., :, None] == alive[..., None, :]
            whole = alive.all(-1)[..., None, None] if self.group in ("centred", "blind") else alike
            kept = kept & whole
        return kept

    def _steps(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """The generator in float64, differentiable in θ."""
        matrix = self.matrix(weights) * self._kept(params, weights)
        out: Tensors = {}
        for term in self.terms:
            still = torch.zeros_like(params[term.parameter], dtype=torch.float64)
            moved = term.acted(params, -matrix.mT if term.dual else matrix, self.copies, still)
            accumulate(out, term.parameter, moved)
        for name, bias in self.taken:
            accumulate(out, bias, -out[name].reshape(params[bias].shape))
        return out
