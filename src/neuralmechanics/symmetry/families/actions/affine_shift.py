"""Affine symmetries: a bias shifts by u, a later bias absorbs what a linear map makes of it: no charge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors, accumulate, detached
from neuralmechanics.symmetry.families.actions.shift import Shift, own_size, shifted
from neuralmechanics.symmetry.families.actions.terms.gain import adjoint_by_differentiation
from neuralmechanics.symmetry.families.actions.terms.product_terms import ProductTerm, product_from, product_to
from neuralmechanics.symmetry.families.actions.terms.slice_terms import integers, slice_terms_from, view_from

__all__ = ["AffineShift", "AffineTerm", "MapFactor"]


@dataclass(frozen=True)
class MapFactor:
    """A linear map: a weight summed over all but its two kept dimensions, the outputs ``output_first`` or last.

    With one kept dimension a diagonal matrix: gains. In ``groups`` each of as many sets of outputs reads inputs of its
    own. ``rows``: the outputs that it makes, all others being zero; none for all.
    """

    view: SliceView
    output_first: bool
    groups: int = 1
    rows: tuple[int, ...] = ()

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.groups * self.view.shape[self.view.kept[-1 if self.output_first else 0]]

    def matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "outputs inputs"]:
        """The map, outputs first."""
        whole = self._whole(params)
        if not self.rows:
            return whole
        made = torch.zeros(len(whole), 1, dtype=whole.dtype, device=whole.device)
        made[list(self.rows)] = 1.0
        return whole * made

    def _whole(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "outputs inputs"]:
        weight = params[self.view.parameter].double().reshape(self.view.shape)
        if self.view.summed:
            weight = weight.sum(dim=self.view.summed)
        if weight.ndim == 1:
            return torch.diag(weight)
        if self.groups > 1:
            parts: Tensor = torch.block_diag(*weight.chunk(self.groups))  # type: ignore[no-untyped-call]
            return parts
        return weight if self.output_first else weight.mT


@dataclass(frozen=True, eq=False)
class AffineTerm:
    """What one bias absorbs of the shifts: b → b - M u, with M the weight summed over all but its two kept dimensions.

    The shift enters the map in its input columns ``inputs`` with ``coefficients`` times the weight of ``generators``.
    ``output_first`` and ``groups`` as those of ``MapFactor``. ``then``: maps that follow, so that M is their product.
    ``rows``: the outputs of M that the bias absorbs; none for all.
    """

    absorber: str
    weight: SliceView
    output_first: bool
    inputs: np.ndarray
    generators: np.ndarray
    coefficients: np.ndarray
    then: tuple[MapFactor, ...] = ()
    groups: int = 1
    rows: tuple[int, ...] = ()

    @property
    def factors(self) -> tuple[MapFactor, ...]:
        """The maps in their order."""
        *before, last = MapFactor(self.weight, self.output_first, self.groups), *self.then
        return (*before, replace(last, rows=self.rows))

    def add_generator_(self, out: Tensors, params: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds the absorbing bias's answer -M u to ``out``."""
        like = params[self.absorber]
        step = self._answer(detached(params, [f.view.parameter for f in self.factors]), self._shift(weights))
        accumulate(out, self.absorber, step.reshape(like.shape).to(like.dtype))

    def add_adjoint_(
        self, out: Tensors, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]
    ) -> None:
        """Adds ∂⟨g, -M u⟩/∂W of the weights W that M is made of to ``out``."""
        names = [f.view.parameter for f in self.factors]
        shift = self._shift(weights.to(gradients[names[0]].device))
        answer = {self.absorber: gradients[self.absorber].reshape(-1)}

        def stepped(leaves: Tensors) -> Tensors:
            return {self.absorber: self._answer(leaves, shift)}

        for name, step in adjoint_by_differentiation(stepped, names, answer, params).items():
            accumulate(out, name, step.to(gradients[name].dtype))

    def _answer(self, params: Mapping[str, Tensor], shift: Tensor) -> Float64[Tensor, " outputs"]:
        """-M u."""
        for factor in self.factors:
            shift = factor.matrix(params) @ shift
        return -shift

    def _shift(self, weights: Tensor) -> Float64[Tensor, " inputs"]:
        """u: what enters each input column of the map."""
        device = weights.device
        amount = weights[torch.as_tensor(self.generators, device=device)].double()
        amount = amount * torch.as_tensor(self.coefficients, dtype=torch.float64, device=device)
        shift = torch.zeros(self.factors[0].inputs, dtype=torch.float64, device=device)
        return shift.index_add_(0, torch.as_tensor(self.inputs, device=device), amount)


@dataclass(frozen=True, eq=False)
class AffineShift(Action):
    """θ → θ + u on the biases of ``terms``, b → b - M u on the biases that absorb it: a constraint without a charge.

    Where a modulation takes u on, weights absorb it, too (``products``). Exact because M, and what these are multiplied
    by, is made of entries that do not move.
    """

    linear: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    terms: tuple[SliceTerm, ...]
    answers: tuple[AffineTerm, ...] = ()
    products: tuple[ProductTerm, ...] = ()

    @property
    def shift_terms(self) -> tuple[SliceTerm, ...]:
        """Those of the biases of ``terms``."""
        return self.terms

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a shift."""
        return self._shift.weights_shape

    @property
    def anchors(self) -> tuple[str, ...]:
        """The biases that are shifted: those that absorb it are shifted by others, too."""
        return self._shift.parameters

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the biases."""
        absorbers = (*(t.absorber for t in self.answers), *(t.absorber.parameter for t in self.products))
        return tuple(dict.fromkeys((*self._shift.parameters, *absorbers)))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the weights of the maps."""
        maps = (factor.view.parameter for term in self.answers for factor in term.factors)
        names = dict.fromkeys((*maps, *(term.source.parameter for term in self.products)))
        return tuple(name for name in names if name not in self.parameters)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """u, and -M u."""
        out = self._shift.generator(params, weights)
        for answer in self.answers:
            answer.add_generator_(out, params, weights)
        for product in self.products:
            product.add_generator_(out, params, weights)
        return out

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """θ + ξ."""
        return shifted(params, self.generator(params, element))

    def units(self, form: Form) -> Iterator[Tensor]:
        """One a shift; none is the gradient of a charge, for M moves under training."""
        yield from torch.eye(*self.weights_shape, dtype=torch.float64) if form == "other" else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal shifts."""
        return self._shift.random_elements(amount, generator)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The root mean square of the biases."""
        return own_size(params, self.parameters)

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """-g ⊗ u on the weights of the maps."""
        out: Tensors = {}
        for answer in self.answers:
            answer.add_adjoint_(out, gradients, weights, params)
        for product in self.products:
            product.add_adjoint_(out, gradients, weights)
        return out

    def to_dict(self) -> dict[str, Any]:
        """The shifts and their answers."""
        products = {"products": [product_to(term) for term in self.products]} if self.products else {}
        return self._shift.to_dict() | {"affine": [_answer_to(term) for term in self.answers]} | products

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AffineShift:
        """The action that was written."""
        products = tuple(product_from(t) for t in data.get("products", ()))
        return cls(slice_terms_from(data["terms"]), tuple(_answer_from(t) for t in data["affine"]), products)

    @cached_property
    def _shift(self) -> Shift:
        return Shift(self.terms)


def _factor_to(factor: MapFactor) -> dict[str, Any]:
    return {"view": asdict(factor.view), "output_first": factor.output_first, "groups": factor.groups}


def _answer_to(term: AffineTerm) -> dict[str, Any]:
    arrays = {name: getattr(term, name).tolist() for name in ("inputs", "generators", "coefficients")}
    head = {"absorber": term.absorber, "weight": asdict(term.weight), "output_first": term.output_first}
    then = {"then": [_factor_to(factor) for factor in term.then]} if term.then else {}
    more = ({"groups": term.groups} if term.groups > 1 else {}) | ({"rows": list(term.rows)} if term.rows else {})
    return head | arrays | then | more


def _answer_from(data: Mapping[str, Any]) -> AffineTerm:
    return AffineTerm(
        data["absorber"],
        view_from(data["weight"]),
        data["output_first"],
        integers(data["inputs"]),
        integers(data["generators"]),
        np.asarray(data["coefficients"], dtype=float),
        tuple(MapFactor(view_from(f["view"]), f["output_first"], f["groups"]) for f in data.get("then", ())),
        data.get("groups", 1),
        tuple(data.get("rows", ())),
    )
