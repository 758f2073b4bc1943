"""What weights absorb of a shift: slices of one weight take back products of the shift with slices of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.families.actions.action import Tensors, accumulate
from neuralmechanics.symmetry.families.actions.terms.slice_terms import integers, view_from

__all__ = ["ProductTerm", "product_from", "product_to"]


@dataclass(frozen=True, eq=False)
class ProductTerm:
    """B_i → B_i - Σ_k c_k u_g(k) G_s(k): what slices of a weight B absorb of shifts u, over the k with i(k) = i.

    ``absorber`` holds the slices B_i and ``source`` the G_s, each of as many entries, or G_s of one entry that stands
    for all. ``slices``, ``sources``, ``generators``, ``coefficients``: i(k), s(k), g(k) and c_k. With (g·c)⊙(h + u) for
    a modulation by a map g of the data c, G are the rows of g, and B those of a map of the same data that is added.
    """

    absorber: SliceView
    source: SliceView
    slices: np.ndarray
    sources: np.ndarray
    generators: np.ndarray
    coefficients: np.ndarray

    def add_generator_(self, out: Tensors, params: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds what the weight absorbs to ``out``."""
        like = params[self.absorber.parameter]
        step = self._answer(params[self.source.parameter].detach(), weights.to(like.device))
        accumulate(out, self.absorber.parameter, step.reshape(like.shape).to(like.dtype))

    def add_adjoint_(self, out: Tensors, gradients: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds ∂⟨g, ξ⟩/∂G = -c u g of the slices that absorb to ``out``."""
        gradient = gradients[self.absorber.parameter]
        met = _cut(gradient, self.absorber)[self._places(self.slices, gradient)] * -self._amounts(weights, gradient)
        shape = _cut_shape(self.source)
        met = met if shape[1] == met.shape[1] else met.sum(1, keepdim=True)
        total = torch.zeros(shape, dtype=torch.float64, device=gradient.device)
        total.index_add_(0, self._places(self.sources, gradient), met)
        name = self.source.parameter
        accumulate(out, name, _joined(total, self.source).reshape(gradients[name].shape).to(gradients[name].dtype))

    def _answer(self, source: Tensor, weights: Tensor) -> Tensor:
        made = _cut(source, self.source)[self._places(self.sources, source)] * -self._amounts(weights, source)
        shape = _cut_shape(self.absorber)
        total = torch.zeros(shape, dtype=torch.float64, device=source.device)
        total.index_add_(0, self._places(self.slices, source), made.expand(-1, shape[1]))
        return _joined(total, self.absorber)

    def _amounts(self, weights: Tensor, like: Tensor) -> Float64[Tensor, "products 1"]:
        coefficients = torch.as_tensor(self.coefficients, dtype=torch.float64, device=like.device)
        return (weights.to(like.device).double()[self._places(self.generators, like)] * coefficients)[:, None]

    def _places(self, numbers: np.ndarray, like: Tensor) -> Tensor:
        return torch.as_tensor(numbers, device=like.device)


def _order(view: SliceView) -> tuple[int, ...]:
    return (*view.kept, *view.summed)


def _cut_shape(view: SliceView) -> tuple[int, int]:
    return view.size, int(np.prod([view.shape[d] for d in view.summed], dtype=np.int64))


def _cut(tensor: Tensor, view: SliceView) -> Float64[Tensor, "slices entries"]:
    """The slices of a tensor, each as a row."""
    return tensor.double().reshape(view.shape).permute(_order(view)).reshape(_cut_shape(view))


def _joined(rows: Tensor, view: SliceView) -> Tensor:
    """The tensor of these slices."""
    order = _order(view)
    return rows.reshape([view.shape[d] for d in order]).permute(np.argsort(order).tolist())


def product_to(term: ProductTerm) -> dict[str, Any]:
    """Plain data; ``product_from`` is its inverse."""
    arrays = {name: getattr(term, name).tolist() for name in ("slices", "sources", "generators", "coefficients")}
    return {"absorber": asdict(term.absorber), "source": asdict(term.source)} | arrays


def product_from(data: Mapping[str, Any]) -> ProductTerm:
    """The term that was written."""
    return ProductTerm(
        view_from(data["absorber"]),
        view_from(data["source"]),
        integers(data["slices"]),
        integers(data["sources"]),
        integers(data["generators"]),
        np.asarray(data["coefficients"], dtype=float),
    )
