"""Complex pairs: two channels that are only scaled and rotated together, as rotary embeddings leave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.mixing.linear_blocks import LinearBlocks
from neuralmechanics.symmetry.families.actions.terms.gram_terms import (
    GramTerm,
    energies,
    gram_terms_from,
    gram_terms_to,
)

__all__ = ["ComplexPairs"]


@dataclass(frozen=True, eq=False)
class ComplexPairs(Action):
    """z → a z where a sign is +1, z → z / ā where it is -1, one a ∈ ℂ without 0 for each pair of channels z = x + iy.

    Weights and elements are (real, imaginary) a pair. The charge is Σ |z|² - Σ |z|²; rotations have none.
    """

    linear: ClassVar[bool] = True
    epithet: ClassVar[str] = "rotary pairs"
    terms: tuple[GramTerm, ...]
    blocks: int

    @property
    def charges(self) -> int:
        """One a pair."""
        return self.blocks

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Real and imaginary part of each pair's factor."""
        return (self.blocks, 2)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return self._real.parameters

    def read_weights(self, given: float | Tensor | None, device: torch.device) -> Tensor:
        """A complex number a pair, or a real one for all; 1 by default."""
        out = torch.as_tensor(1.0 if given is None else given, dtype=torch.float64, device=device)
        if out.ndim == 0:
            return self.stretch(out.expand(self.blocks))
        if out.shape != self.weights_shape:
            raise ValueError(
                f"factors of shape {tuple(out.shape)} given, ({self.blocks}, 2) is needed: real and imaginary part of "
                "each pair's factor"
            )
        return out

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """w z and -w̄ z."""
        return self._real.generator(params, _matrices(weights))

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """a z and z / ā."""
        return self._real.transform(params, _matrices(element))

    @property
    def channel_factors(self) -> tuple[SliceTerm, ...]:
        """The real factors: one for both channels of each pair."""
        return tuple(term.factors(np.zeros(2, dtype=np.int64), 1) for term in self.terms)

    @property
    def turns(self) -> int:
        """One a pair."""
        return self.blocks

    @property
    def moved_slices(self) -> tuple[tuple[SliceView, np.ndarray], ...]:
        """The channels of the pairs."""
        return tuple((term.view, term.slices.reshape(-1)) for term in self.terms)

    def inverse(self, element: Tensor) -> Tensor:
        """1/a."""
        return torch.view_as_real(1 / torch.view_as_complex(element.contiguous()))

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """With 1/ā: multiplication by a is transposed to that by ā."""
        factors = torch.view_as_complex(self.read_weights(element, element.device).contiguous())
        return self.transform(gradients, torch.view_as_real(1 / factors.conj()))

    def exponential(self, weights: Tensor) -> Tensor:
        """e^w."""
        return torch.view_as_real(torch.view_as_complex(weights.contiguous()).exp())

    def units(self, form: Form) -> Iterator[Tensor]:
        """1 and i of one pair."""
        parts: dict[Form, int] = {"diagonal": 0, "antisymmetric": 1}
        if form in parts:
            for block in range(self.blocks):
                weights = torch.zeros(self.weights_shape, dtype=torch.float64)
                weights[block, parts[form]] = 1.0
                yield weights

    def random_weights(self, generator: torch.Generator) -> Tensor:
        """Normal complex numbers of unit size."""
        noise: Tensor = torch.randn(self.weights_shape, generator=generator, dtype=torch.float64) / 2**0.5
        return noise

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """A rotation and a stretch."""
        noise = amount * torch.randn(self.weights_shape, generator=generator, dtype=torch.float64)
        for part, name in ((1, "rotation"), (0, "stretch")):
            chosen = torch.zeros_like(noise)
            chosen[:, part] = noise[:, part]
            yield name, self.exponential(chosen)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """A half: e^{w/2} of a number of unit size."""
        return 0.5

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Re Σ ± a b̄ of every pair."""
        return _trace(self._real.moment(a, b))

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The same with the lengths of the channels over both sides."""
        left, right = (energies(self.terms, self.blocks, values).sqrt() for values in (a, b))
        return (left * right).sum(-1)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """A part for each parameter."""
        return ChargeTerms(products=tuple(term.traces(offset) for term in self.terms))

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """w̄ g and -w g."""
        return self.generator(gradients, weights * weights.new_tensor([1.0, -1.0]))

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """w² z and w̄² z."""
        return self.generator(xi, weights)

    def moment(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        """The charges: real factors are the symmetric generators."""
        return self.pair(a, b)

    def sides(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Σ |z|² of what is multiplied and of what is divided."""
        total, charge = self.inertia(params), self.pair(params, params)
        return (total + charge) / 2, (total - charge) / 2

    def inertia(self, params: Mapping[str, Tensor]) -> Tensor:
        """Σ |z|² of every pair."""
        return _trace(self._real.inertia(params))

    def stretch(self, direction: Float64[Tensor, " blocks"]) -> Tensor:
        """Real numbers as complex ones."""
        return torch.stack([direction, torch.zeros_like(direction)], dim=-1)

    def to_dict(self) -> dict[str, Any]:
        """The terms and the number of pairs."""
        return {"grams": gram_terms_to(self.terms), "blocks": self.blocks, "complex": True}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ComplexPairs:
        """The action that was written."""
        return cls(gram_terms_from(data["grams"]), data["blocks"])

    @cached_property
    def _real(self) -> LinearBlocks:
        """The same channels as blocks of two, of which only matrices [[a, -b], [b, a]] are used."""
        return LinearBlocks(self.terms, self.blocks)


def _matrices(parts: Float64[Tensor, "blocks 2"]) -> Float64[Tensor, "blocks 2 2"]:
    """The real matrix [[a, -b], [b, a]] of multiplication by a + ib."""
    a, b = parts.double().unbind(-1)
    return torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2)


def _trace(matrices: Float64[Tensor, "blocks 2 2"]) -> Float64[Tensor, " blocks"]:
    return matrices.diagonal(dim1=1, dim2=2).sum(-1)
