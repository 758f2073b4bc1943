"""The sparse matrix from slice sums to charges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.blocks import row_column_sums
from neuralmechanics.slices.layout import MatrixLayout, matrix_layouts
from neuralmechanics.slices.sums import slice_products, slice_sums
from neuralmechanics.slices.views import SliceTerm, SliceView, spread

__all__ = ["SliceMix"]

# Elements above which a tensor is read in blocks.
_LARGE = 1 << 16


class SliceMix:
    """The sparse matrix S from all slices of all views to ``charges`` charges, applied one parameter at a time.

    Linear in its inputs, so the shares of parameters, or of shards of a parameter, simply add up.
    """

    def __init__(self, charges: int, terms: Iterable[SliceTerm]) -> None:
        self.charges = charges
        self._terms: dict[str, list[SliceTerm]] = {}
        for term in terms:
            self._terms.setdefault(term.view.parameter, []).append(term)
        self._layouts: dict[tuple[str, torch.device], list[tuple[MatrixLayout, list[int], list[Tensor]]]] = {}
        self._on_device: dict[tuple[str, torch.device], list[tuple[SliceView, Tensor, Tensor, Tensor]]] = {}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that enter any charge."""
        return tuple(self._terms)

    def terms(self, name: str) -> Sequence[SliceTerm]:
        """The coefficients of one parameter's slices, none where it enters no charge."""
        return self._terms.get(name, ())

    def _operands(self, name: str, device: torch.device) -> list[tuple[SliceView, Tensor, Tensor, Tensor]]:
        key = (name, device)
        if key not in self._on_device:
            self._on_device[key] = [
                (
                    term.view,
                    torch.as_tensor(term.charges, dtype=torch.int64, device=device),
                    torch.as_tensor(term.slices, dtype=torch.int64, device=device),
                    torch.as_tensor(term.coefficients, dtype=torch.float64, device=device),
                )
                for term in self._terms[name]
            ]
        return self._on_device[key]

    def add_products_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """Adds parameter ``name``'s share of S·e(a, b) to ``out``, on the device of ``a``."""
        self._add(out, name, a, b)

    def add_sums_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor) -> None:
        """Adds parameter ``name``'s share of S·s(a) to ``out``, on the device of ``a``."""
        self._add(out, name, a, None)

    def _add(self, out: Tensor, name: str, a: Tensor, b: Tensor | None) -> None:
        if name not in self._terms:
            return
        operands = self._operands(name, a.device)
        views = [view for view, *_ in operands]
        values = self._in_blocks(name, a, b, views) if a.numel() > _LARGE else _whole(a, b, views)
        for (_, charges, slices, coefficients), value in zip(operands, values, strict=True):
            out.index_add_(0, charges, value[slices] * coefficients)

    def _in_blocks(
        self, name: str, a: Tensor, b: Tensor | None, views: Sequence[SliceView]
    ) -> list[Float64[Tensor, " slices"]]:
        """The same sums without anything of the tensor's size in memory."""
        if a.is_complex() or (b is not None and b.is_complex()):
            return _whole(a, b, views)
        key = (name, a.device)
        if key not in self._layouts:
            self._layouts[key] = [
                (layout, held, [torch.from_numpy(slice_of).to(a.device) for slice_of in layout.slices])
                for layout, held in matrix_layouts(views, tuple(a.shape))
            ]
        operands = [a.detach()] if b is None or b is a else [a.detach(), b.detach()]
        pair = (0, -1) if b is None else (0, len(operands) - 1)
        found: dict[int, Tensor] = {}
        for layout, held, slices in self._layouts[key]:
            rows, columns = row_column_sums(operands, [pair], (layout.rows, layout.columns))
            for k, by_rows, slice_of in zip(held, layout.by_rows, slices, strict=True):
                out = torch.zeros(views[k].size, dtype=torch.float64, device=a.device)
                # A slice may consist of many rows or columns, so they are added and not assigned.
                found[k] = out.index_add_(0, slice_of, (rows if by_rows else columns)[0])
        return [found[k] for k in range(len(views))]

    def products(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """S·e(a, b) over all parameters."""
        out = self._zeros(a)
        for name in self._terms:
            self._add(out, name, a[name], b[name])
        return out

    def sums(self, a: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """S·s(a) over all parameters."""
        out = self._zeros(a)
        for name in self._terms:
            self._add(out, name, a[name], None)
        return out

    def _zeros(self, a: Mapping[str, Tensor]) -> Tensor:
        device = next((a[name].device for name in self._terms), torch.device("cpu"))
        return torch.zeros(self.charges, dtype=torch.float64, device=device)

    def elements(self) -> Float64[Tensor, " charges"]:
        """Σ|c| over the elements of every charge: how many it has, each with the size of its coefficient."""
        out = np.zeros(self.charges)
        for terms in self._terms.values():
            for term in terms:
                each = math.prod(term.view.shape) // max(term.view.size, 1)
                # A charge stands here once a slice; `out[charges] += …` would count only its last.
                np.add.at(out, term.charges, np.abs(term.coefficients) * each)
        return torch.from_numpy(out)

    def absolute(self) -> SliceMix:
        """The same mix with every coefficient replaced by its absolute value."""
        return SliceMix(
            self.charges,
            [
                SliceTerm(t.view, t.charges, t.slices, np.abs(t.coefficients))
                for terms in self._terms.values()
                for t in terms
            ],
        )

    def exponents(self, name: str, weights: Float64[Tensor, " charges"], shape: Sequence[int]) -> Tensor:
        """Sᵀ·weights spread over parameter ``name``: what each element is multiplied by, or raised to."""
        total = torch.zeros(tuple(shape), dtype=torch.float64, device=weights.device)
        for view, charges, slices, coefficients in self._operands(name, weights.device):
            values = torch.zeros(view.size, dtype=torch.float64, device=weights.device)
            values.index_add_(0, slices, weights[charges] * coefficients)
            # The adjoint of the sum: what a slice is weighted by goes to each of its elements.
            total += spread(values, view).expand(view.shape).reshape(tuple(shape))
        return total


def _whole(a: Tensor, b: Tensor | None, views: Sequence[SliceView]) -> list[Float64[Tensor, " slices"]]:
    return slice_sums(a, views) if b is None else slice_products(a, b, views)
