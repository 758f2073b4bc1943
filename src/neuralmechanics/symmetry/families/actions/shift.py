"""Translations: slices of parameters are shifted by constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceMix, SliceTerm, widened
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.terms.slice_terms import (
    elements_moved,
    renumbered,
    rows,
    slice_terms_from,
    slice_terms_to,
)

__all__ = ["Shift", "own_size", "shifted"]


@dataclass(frozen=True, eq=False)
class Shift(Action):
    """θ_i → θ_i + Σ_c a_c S_ci, with a charge Σ_i S_ci θ_i for each c; ``terms`` hold S, constant on slices.

    The columns of a softmax layer: all entries of a column by the same amount.

    >>> from neuralmechanics.slices import SliceView
    >>> term = SliceTerm(SliceView("w", (2, 2), (1,)), np.array([0, 1]), np.array([0, 1]), np.ones(2))
    >>> action, params = Shift((term,)), {"w": torch.zeros(2, 2, dtype=torch.float64)}
    >>> moved = action.transform(params, torch.tensor([1.0, 5.0], dtype=torch.float64))
    >>> moved["w"].tolist(), action.pair(moved, moved).tolist()
    ([[1.0, 5.0], [1.0, 5.0]], [2.0, 10.0])
    """

    linear: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    terms: tuple[SliceTerm, ...]

    @cached_property
    def charges(self) -> int:
        """One a shift."""
        return rows(self.terms)

    @property
    def shift_terms(self) -> tuple[SliceTerm, ...]:
        """The coefficients S."""
        return self.terms

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a shift."""
        return (self.charges,)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return self._mix.parameters

    def renumbered(self, places: np.ndarray) -> Shift:
        """Those shifts."""
        return replace(self, terms=renumbered(self.terms, places))

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """As they are: J = 1."""
        return gradients

    def square_cotangent(self, squares: Tensors, element: Tensor) -> Tensors:
        """As they are."""
        return squares

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """The sum of the shifts of each element, whatever θ."""
        steps = {name: self._mix.exponents(name, weights, params[name].shape) for name in self.parameters}
        return {name: step.to(params[name].dtype) for name, step in steps.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """θ + ξ."""
        return shifted(params, self.generator(params, element))

    def units(self, form: Form) -> Iterator[Tensor]:
        """One a shift."""
        yield from torch.eye(self.charges, dtype=torch.float64) if form == "constant" else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal shifts."""
        yield "shift", amount * torch.randn(self.weights_shape, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The root mean square of what moves."""
        return own_size(params, self.parameters)

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Σ_i S_ci a_i, whatever b."""
        return self._mix.sums(a)

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """√(Σ |S_ci|) · √(Σ |S_ci| a_i²), whatever b."""
        # Cauchy and Schwarz: |Σ S a| ≤ √(Σ |S|)·√(Σ |S| a²), which no sign can cancel.
        mix = self._mix.absolute()
        ones = {
            name: torch.ones((), dtype=torch.float64, device=a[name].device).expand(a[name].shape)
            for name in self.parameters
        }
        return (mix.products(a, a) * mix.sums(ones)).sqrt()

    def charge_terms(self, offset: int) -> ChargeTerms:
        """Mixes of slice sums."""
        return ChargeTerms(sums=tuple(term.offset(offset) for term in self.terms))

    def elements_moved(self) -> Mapping[str, np.ndarray]:
        """Counted by slices."""
        return elements_moved(self.terms, self.charges)

    def to_dict(self) -> dict[str, Any]:
        """The terms."""
        return {"terms": slice_terms_to(self.terms)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shift:
        """The action that was written."""
        return cls(slice_terms_from(data["terms"]))

    @cached_property
    def _mix(self) -> SliceMix:
        return SliceMix(self.charges, self.terms)


def shifted(params: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensors:
    """θ + ξ, added in double precision; what does not move stays as it is."""
    return dict(params) | {name: (widened(params[name]) + step).to(params[name].dtype) for name, step in steps.items()}


def own_size(params: Mapping[str, Tensor], names: tuple[str, ...]) -> float:
    """The root mean square of all elements of these parameters, at least a twentieth."""
    squares = torch.cat([widened(params[name]).abs().square().reshape(-1) for name in names])
    return max(float(squares.mean().sqrt()), 0.05)
