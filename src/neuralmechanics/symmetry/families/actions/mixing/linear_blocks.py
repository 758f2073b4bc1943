"""Linear blocks: channels are mixed by any invertible matrix, those that read them by its inverse transpose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors, accumulate
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.terms.gram_terms import (
    GramTerm,
    act,
    energies,
    gram,
    gram_terms_from,
    gram_terms_to,
    infinitesimal,
)

__all__ = ["BlockLabels", "LinearBlocks"]

_WORST = 1e12  # condition number beyond which the inverse of a matrix is rounding


class BlockLabels(Sequence[str]):
    """The labels of all charges of linear blocks, made when they are asked for: ``block (i, j)`` with i ≤ j."""

    def __init__(self, names: Sequence[str], width: int) -> None:
        self.names = names
        self.width = width

    def __len__(self) -> int:
        return len(self.names) * (self.width * (self.width + 1) // 2)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        block, place = divmod(range(len(self))[index], self.width * (self.width + 1) // 2)
        row = 0
        while place >= self.width - row:
            place -= self.width - row
            row += 1
        return f"{self.names[block]} ({row}, {row + place})"

    def __iter__(self) -> Iterator[str]:
        for name in self.names:
            for i in range(self.width):
                for j in range(i, self.width):
                    yield f"{name} ({i}, {j})"


@dataclass(frozen=True, eq=False)
class LinearBlocks(Action):
    """X → A X where a sign is +1, Y → A⁻ᵀ Y where it is -1, one A ∈ GL(width) for each of ``blocks`` blocks.

    The charges are the independent entries of the symmetric matrices C = Σ X Xᵀ - Σ Y Yᵀ.
    """

    linear: ClassVar[bool] = True
    terms: tuple[GramTerm, ...]
    blocks: int

    @cached_property
    def width(self) -> int:
        """Channels of a block."""
        return int(self.terms[0].slices.shape[1])

    @property
    def charges(self) -> int:
        """The entries of the upper triangles."""
        return self.blocks * (self.width * (self.width + 1) // 2)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """A matrix a block."""
        return (self.blocks, self.width, self.width)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return tuple(dict.fromkeys(term.view.parameter for term in self.terms))

    def read_weights(self, given: float | Tensor | None, device: torch.device) -> Tensor:
        """A matrix a block, one for all, or a multiple of the identity; the identity by default."""
        unit = torch.eye(self.width, dtype=torch.float64, device=device)
        out = torch.as_tensor(1.0 if given is None else given, dtype=torch.float64, device=device)
        out = out if out.ndim else unit * out
        full = self.weights_shape
        if out.shape not in (full, full[1:]):
            raise ValueError(f"matrices of shape {tuple(out.shape)} given, {full} or {full[1:]} is needed")
        return out.expand(full)

    def read_element(self, given: float | Tensor, device: torch.device) -> Tensor:
        """The same, each with an inverse; the determinant may be negative."""
        matrices = self.read_weights(given, device)
        # Not ``cond >= _WORST``, which is false for nan.
        if not bool((torch.linalg.cond(matrices) < _WORST).all()):
            raise ValueError("a matrix without inverse given; give invertible ones, of either sign of the determinant")
        return matrices

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """M X and -Mᵀ Y."""
        out: Tensors = {}
        for term in self.terms:
            name = term.view.parameter
            accumulate(out, name, infinitesimal(term, params[name], weights).to(params[name].dtype))
        return out

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """A X and A⁻ᵀ Y."""
        out = dict(params)
        for term in self.terms:
            name = term.view.parameter
            out[name] = act(term, out[name], element).to(params[name].dtype)
        return out

    @property
    def channels(self) -> int:
        """Those of a matrix."""
        return self.width

    @property
    def matrix_group(self) -> str:
        """All invertible ones."""
        return "general linear"

    @property
    def channel_factors(self) -> tuple[SliceTerm, ...]:
        """The diagonal matrices: one factor a channel of each block."""
        return tuple(term.factors(np.arange(self.width), self.width) for term in self.terms)

    @property
    def moved_slices(self) -> tuple[tuple[SliceView, np.ndarray], ...]:
        """The channels of the blocks."""
        return tuple((term.view, term.slices.reshape(-1)) for term in self.terms)

    def inverse(self, element: Tensor) -> Tensor:
        """A⁻¹."""
        back: Tensor = torch.linalg.inv(element)
        return back

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """With A⁻ᵀ."""
        return self.transform(gradients, torch.linalg.inv(self.read_element(element, element.device)).mT)

    def exponential(self, weights: Tensor) -> Tensor:
        """exp M of every block."""
        element: Tensor = torch.linalg.matrix_exp(weights)
        return element

    def units(self, form: Form) -> Iterator[Tensor]:
        """E_ii, E_ij + E_ji and E_ij - E_ji of one block."""
        for block in range(self.blocks):
            for i in range(self.width):
                for j in range(i, i + 1) if form == "diagonal" else range(i + 1, self.width):
                    if form in ("diagonal", "symmetric", "antisymmetric"):
                        weights = torch.zeros(self.weights_shape, dtype=torch.float64)
                        weights[block, i, j] = 1.0
                        weights[block, j, i] = -1.0 if form == "antisymmetric" else 1.0
                        yield weights

    def random_weights(self, generator: torch.Generator) -> Tensor:
        """Normal matrices of unit size."""
        noise: Tensor = self._noise(generator) / self.width**0.5
        return noise

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """An isometry and a stretch."""
        noise = self._noise(generator)
        yield "rotation", torch.linalg.matrix_exp(amount * (noise - noise.mT))
        yield "stretch", torch.linalg.matrix_exp(amount * (noise + noise.mT) / 2)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """A half: exp(M/2) of a matrix of unit size."""
        return 0.5

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The upper triangles of C(a, b)."""
        return self._upper(gram(self.terms, self.blocks, a, b))

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """½(|a_i||b_j| + |b_i||a_j|), with |a_i| the length of channel i over both sides."""
        left, right = (energies(self.terms, self.blocks, values).sqrt() for values in (a, b))
        outer = left[:, :, None] * right[:, None, :]
        return self._upper((outer + outer.mT) / 2)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """A part of C for each parameter."""
        return ChargeTerms(grams=tuple(term.entries(offset) for term in self.terms))

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """Mᵀ g and -M g."""
        return self.generator(gradients, weights.mT)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """M M X and Mᵀ Mᵀ Y."""
        return self.generator(xi, weights)

    def moment(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        """C(a, b), without the antisymmetric rounding."""
        matrices = gram(self.terms, self.blocks, a, b)
        return (matrices + matrices.mT) / 2

    def sides(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """X Xᵀ and Y Yᵀ of every block."""
        total, charge = self.inertia(params), gram(self.terms, self.blocks, params, params)
        return (total + charge) / 2, (total - charge) / 2

    def inertia(self, params: Mapping[str, Tensor]) -> Tensor:
        """X Xᵀ + Y Yᵀ of every block."""
        return gram([term.positive() for term in self.terms], self.blocks, params, params)

    def to_dict(self) -> dict[str, Any]:
        """The terms and the number of blocks."""
        return {"grams": gram_terms_to(self.terms), "blocks": self.blocks}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LinearBlocks:
        """The action that was written."""
        return cls(gram_terms_from(data["grams"]), data["blocks"])

    def _upper(self, matrices: Float64[Tensor, "blocks width width"]) -> Float64[Tensor, " charges"]:
        rows, columns = torch.triu_indices(self.width, self.width, device=matrices.device)
        return matrices[:, rows, columns].reshape(-1)

    def _noise(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.weights_shape, generator=generator, dtype=torch.float64)
