"""Scales and rescales: every element is multiplied by a power of a positive factor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceMix, SliceTerm, SliceView, widened
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.terms.slice_terms import (
    elements_moved,
    renumbered,
    rows,
    slice_terms_from,
    slice_terms_to,
)

__all__ = ["Diagonal"]


@dataclass(frozen=True, eq=False)
class Diagonal(Action):
    """θ_i → Π_c a_c^{S_ci} θ_i with a positive factor a_c and a charge Σ_i S_ci θ_i² for each c.

    ``terms`` hold the exponents S, which are constant on slices of parameters. ``signed``: factors may be negative, too
    (then all exponents are whole numbers). Two layers with a ReLU between them,
    unit 0 scaled up in the first and down in the second:

    >>> from neuralmechanics.slices import SliceView
    >>> row, column = (SliceView(n, (1, 1), (d,)) for n, d in (("first", 0), ("second", 1)))
    >>> zero, one = np.array([0]), np.array([1.0])
    >>> action = Diagonal((SliceTerm(row, zero, zero, one), SliceTerm(column, zero, zero, -one)))
    >>> params = {"first": torch.full((1, 1), 3.0), "second": torch.full((1, 1), 2.0)}
    >>> moved = action.transform(params, torch.tensor([2.0], dtype=torch.float64))
    >>> moved["first"].item(), moved["second"].item(), action.pair(params, params).tolist()
    (6.0, 1.0, [5.0])
    """

    linear: ClassVar[bool] = True
    terms: tuple[SliceTerm, ...]
    signed: bool = False

    @cached_property
    def charges(self) -> int:
        """One a factor."""
        return rows(self.terms)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a factor: its logarithm."""
        return (self.charges,)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return self._mix.parameters

    @property
    def factor_terms(self) -> tuple[SliceTerm, ...]:
        """The exponents."""
        return self.terms

    @property
    def moved_slices(self) -> tuple[tuple[SliceView, np.ndarray], ...]:
        """Those with an exponent."""
        return tuple((term.view, term.slices) for term in self.terms)

    def with_signs(self) -> Diagonal | None:
        """With the same exponents, where these are whole numbers: a negative factor has no real root."""
        whole = all((np.round(term.coefficients) == term.coefficients).all() for term in self.terms)
        return replace(self, signed=True) if whole else None

    def read_element(self, given: float | Tensor, device: torch.device) -> Tensor:
        """Positive factors, or any but zero."""
        factors = self.read_weights(given, device)
        if self.signed and bool((factors == 0).any() or factors.isnan().any()):
            raise ValueError(f"a factor must not be zero, got {float(factors[factors.abs().argmin()]):g}; use a ≠ 0")
        if not self.signed and not bool((factors > 0).all()):
            raise ValueError(f"a factor must be positive, got {float(factors.min()):g}; use a > 0")
        return factors

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """Each element times the sum of its exponents."""
        return {
            name: (value * exponents).to(params[name].dtype) for name, value, exponents in self._spread(params, weights)
        }

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """Each element times the product of the factors' powers."""
        # Products of powers as sums of logarithms, of sizes alone: signs are counted apart.
        moved = self._spread(params, element.abs().log())
        out = {name: value * sums.exp() for name, value, sums in moved}
        if self.signed:
            for name, _, odd in self._spread(params, (element < 0).double()):
                # How many negative factors enter, with their exponents: an odd number turns the sign.
                out[name] = out[name] * (1 - 2 * (odd.round() % 2))
        return dict(params) | {name: value.to(params[name].dtype) for name, value in out.items()}

    def exponential(self, weights: Tensor) -> Tensor:
        """Factors from their logarithms."""
        return weights.exp()

    def inverse(self, element: Tensor) -> Tensor:
        """1/a."""
        return 1 / element

    def renumbered(self, places: np.ndarray) -> Diagonal:
        """The exponents of those factors."""
        return replace(self, terms=renumbered(self.terms, places))

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """Gradients of what is multiplied are divided."""
        return self.transform(gradients, 1 / self.read_element(element, element.device))

    def square_cotangent(self, squares: Tensors, element: Tensor) -> Tensors:
        """Their squares, by the squared factors."""
        return self.transform(squares, 1 / self.read_element(element, element.device).square())

    def units(self, form: Form) -> Iterator[Tensor]:
        """One a factor."""
        yield from torch.eye(self.charges, dtype=torch.float64) if form == "diagonal" else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Factors whose logarithms are normal."""
        yield "factor", (amount * torch.randn(self.charges, generator=generator, dtype=torch.float64)).exp()

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The logarithm of a factor of 2."""
        return float(np.log(2.0))

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Σ_i S_ci a_i b_i."""
        return self._mix.products(a, b)

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Σ_i |S_ci a_i b_i|."""
        left, right = ({name: values[name].abs() for name in self.parameters} for values in (a, b))
        return self._powers(1.0).products(left, right)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """Mixes of slice energies."""
        return ChargeTerms(products=tuple(term.offset(offset) for term in self.terms))

    def elements_moved(self) -> Mapping[str, np.ndarray]:
        """Counted by slices."""
        return elements_moved(self.terms, self.charges)

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """M g: a diagonal matrix is its own transpose."""
        return self.generator(gradients, weights)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """M ξ."""
        return self.generator(xi, weights)

    def moment(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        """The charges: all generators are symmetric."""
        return self.pair(a, b)

    def sides(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The energies with positive and with negative exponents."""
        total, charge = self._powers(1.0).products(params, params), self.pair(params, params)
        return (total + charge) / 2, (total - charge) / 2

    def inertia(self, params: Mapping[str, Tensor]) -> Tensor:
        """Σ_i S_ci² θ_i²."""
        return self._powers(2.0).products(params, params)

    def to_dict(self) -> dict[str, Any]:
        """The terms, and whether factors may be negative."""
        return {"terms": slice_terms_to(self.terms)} | ({"signed": True} if self.signed else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Diagonal:
        """The action that was written."""
        return cls(slice_terms_from(data["terms"]), data.get("signed", False))

    @cached_property
    def _mix(self) -> SliceMix:
        return SliceMix(self.charges, self.terms)

    def _powers(self, power: float) -> SliceMix:
        """Slice energies weighted by |S|^power."""
        if power not in self._known_powers:
            terms = [SliceTerm(t.view, t.charges, t.slices, np.abs(t.coefficients) ** power) for t in self.terms]
            self._known_powers[power] = SliceMix(self.charges, terms)
        return self._known_powers[power]

    @cached_property
    def _known_powers(self) -> dict[float, SliceMix]:
        return {}

    def _spread(self, params: Mapping[str, Tensor], weights: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each parameter that moves, in double precision, with Σ_c w_c S_ci of its elements."""
        for name in self.parameters:
            value = widened(params[name])
            yield name, value, self._mix.exponents(name, weights, value.shape)
