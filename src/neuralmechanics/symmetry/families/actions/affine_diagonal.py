"""Scales and rescales about another point than zero: gains that are stored as what is added to a constant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView, widened
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.diagonal import Diagonal
from neuralmechanics.symmetry.families.actions.terms.slice_terms import slice_terms_from, slice_terms_to

__all__ = ["AffineDiagonal", "Origin", "origins_of"]


@dataclass(frozen=True, eq=False)
class Origin:
    """What is added to a parameter before anything else reads it: θ enters the function as θ + c.

    ``values`` hold c with one entry along every dimension of the parameter in which it is constant.
    """

    parameter: str
    values: np.ndarray

    def tensor(self, like: Tensor) -> Tensor:
        """c in double precision, broadcastable to the parameter."""
        return torch.tensor(self.values, dtype=torch.float64, device=like.device)

    def described(self, name: str) -> str:
        """The parameter, or a slice of it, as it is read: ``1 + norm.weight`` where c is one number."""
        return f"{float(self.values.reshape(-1)[0]):g} + {name}" if self.values.size == 1 else f"c + {name}"


@dataclass(frozen=True, eq=False)
class AffineDiagonal(Action):
    """u_i → Π_k a_k^{S_ki} u_i for u = θ + c, with a charge Σ_i S_ki (θ_i + c_i)² for each k.

    ``terms`` hold the exponents S as those of ``Diagonal``, ``origins`` the constants c; parameters without one have
    c = 0. A gain 1 + w before a layer, doubled against the layer's column:

    >>> from neuralmechanics.slices import SliceView
    >>> zero, one = np.array([0]), np.array([1.0])
    >>> gain, column = SliceView("w", (1,), (0,)), SliceView("v", (1, 1), (1,))
    >>> terms = (SliceTerm(gain, zero, zero, one), SliceTerm(column, zero, zero, -one))
    >>> action = AffineDiagonal(terms, (Origin("w", np.array([1.0])),))
    >>> params = {"w": torch.full((1,), 0.5), "v": torch.full((1, 1), 4.0)}
    >>> moved = action.transform(params, torch.tensor([2.0], dtype=torch.float64))
    >>> moved["w"].item(), moved["v"].item(), action.charge(params).tolist()
    (2.0, 2.0, [-13.75])
    """

    linear: ClassVar[bool] = True
    terms: tuple[SliceTerm, ...]
    origins: tuple[Origin, ...]

    @property
    def charges(self) -> int:
        """One a factor."""
        return self.centred.charges

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a factor: its logarithm."""
        return self.centred.weights_shape

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return self.centred.parameters

    @property
    def described(self) -> tuple[str, ...]:
        """Parameters with what is added to them."""
        known = {origin.parameter: origin for origin in self.origins}
        return tuple(known[name].described(name) if name in known else name for name in self.parameters)

    @property
    def signed(self) -> bool:
        """Never: spaces follow the signs of θ, not those of θ + c."""
        return False

    @property
    def factor_terms(self) -> tuple[SliceTerm, ...]:
        """The exponents, of slices of u."""
        return self.terms

    def origin(self, like: Mapping[str, Tensor]) -> Tensors:
        """The constants c."""
        return {o.parameter: o.tensor(like[o.parameter]) for o in self.origins if o.parameter in like}

    def read_element(self, given: float | Tensor, device: torch.device) -> Tensor:
        """Positive factors."""
        return self.centred.read_element(given, device)

    def point(self, params: Mapping[str, Tensor]) -> Tensors:
        """u = θ + c."""
        named = ((o.parameter, o.tensor(params[o.parameter])) for o in self.origins)
        return dict(params) | {name: widened(params[name]) + c for name, c in named}

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """Each element of u times the sum of its exponents."""
        steps = self.centred.generator(self.point(params), weights)
        return {name: step.to(params[name].dtype) for name, step in steps.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """u times the product of the factors' powers, less c."""
        moved = self.centred.transform(self.point(params), element)
        for origin in self.origins:
            name = origin.parameter
            # In double precision until c is taken off: rounded beside c, a small θ would lose its digits.
            moved[name] = (moved[name] - origin.tensor(moved[name])).to(params[name].dtype)
        return moved

    def exponential(self, weights: Tensor) -> Tensor:
        """Factors from their logarithms."""
        return self.centred.exponential(weights)

    def inverse(self, element: Tensor) -> Tensor:
        """1/a."""
        return 1 / element

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """As of factors about zero: constants have no gradient."""
        return self.centred.cotangent(gradients, element, params)

    def square_cotangent(self, squares: Tensors, element: Tensor) -> Tensors:
        """The same of squares."""
        return self.centred.square_cotangent(squares, element)

    def units(self, form: Form) -> Iterator[Tensor]:
        """One a factor."""
        return self.centred.units(form)

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Factors whose logarithms are normal."""
        return self.centred.random_elements(amount, generator)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The logarithm of a factor of 2."""
        return self.centred.reach(params)

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Σ_i S_ki a_i b_i."""
        return self.centred.pair(a, b)

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Σ_i |S_ki a_i b_i|."""
        return self.centred.scale(a, b)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """Slice energies of θ, slice sums of θ weighted by S c, and Σ S c²."""
        terms = [(term, c) for term in self.terms if (c := self._constants.get(term.view.parameter)) is not None]
        return ChargeTerms(
            products=self.centred.charge_terms(offset).products,
            offsets=tuple(_weighted(term, c).offset(offset) for term, c in terms),
            constants=tuple(_weighted(term, c * c).offset(offset) for term, c in terms),
        )

    def elements_moved(self) -> Mapping[str, np.ndarray]:
        """Counted by slices."""
        return self.centred.elements_moved()

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """M g: the constants drop out of ∂ξ/∂θ."""
        return self.centred.generator(gradients, weights)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """M ξ."""
        return self.centred.generator(xi, weights)

    def to_dict(self) -> dict[str, Any]:
        """The terms and the constants, under a name of their own: without the constants the terms would be false."""
        origins = [{"parameter": o.parameter, "values": o.values.tolist()} for o in self.origins]
        return {"displaced": {"terms": slice_terms_to(self.terms), "origins": origins}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AffineDiagonal:
        """The action that was written."""
        written = data["displaced"]
        origins = (Origin(o["parameter"], np.asarray(o["values"], dtype=float)) for o in written["origins"])
        return cls(slice_terms_from(written["terms"]), tuple(origins))

    @cached_property
    def centred(self) -> Diagonal:
        """The action on u."""
        return Diagonal(self.terms)

    @cached_property
    def _constants(self) -> dict[str, np.ndarray]:
        return {o.parameter: o.values for o in self.origins}


def origins_of(values: Mapping[str, np.ndarray], names: Iterable[str]) -> tuple[Origin, ...]:
    """The origins of those of the named parameters that have one."""
    return tuple(Origin(name, values[name]) for name in names if name in values)


def _weighted(term: SliceTerm, values: np.ndarray) -> SliceTerm:
    """Coefficients times numbers that may differ inside a slice: over as many dimensions as are needed to tell them.

    The view must see the parameter in its own shape.
    """
    shape, kept = term.view.shape, term.view.kept
    wide = tuple(d for d, n in enumerate(values.shape) if n > 1)
    finer = SliceView(term.view.parameter, shape, tuple(sorted({*kept, *wide})))
    number = np.arange(finer.size).reshape([shape[d] for d in finer.kept])
    inside = [d for d in finer.kept if d not in kept]
    order = [finer.kept.index(d) for d in (*kept, *inside)]
    members = number.transpose(order).reshape(term.view.size, -1)
    constants = np.broadcast_to(values, [n if d in finer.kept else 1 for d, n in enumerate(shape)]).reshape(-1)
    slices = members[term.slices]
    coefficients = (term.coefficients[:, None] * constants[slices]).reshape(-1)
    charges = np.repeat(term.charges, members.shape[1])
    moved = coefficients != 0
    return SliceTerm(finer, charges[moved], slices.reshape(-1)[moved], coefficients[moved])
