"""Bilinear sums over slices of tensors: the one hot loop behind every quadratic charge.

A *slice* is the set of all elements of a (reshaped) tensor whose indices along the kept dimensions are fixed. With
e[i] = Σ_{slice i} a·b, every diagonal quadratic charge is a sparse mix S·e(θ, θ), every drive S·e(d, d) or S·e(d, v)
and every residual S·e(g, θ); a translation charge is S·s(θ), with s the plain sums. One product in float64 serves all
views of a tensor, whatever the number of charges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["SliceMix", "SliceTerm", "SliceView", "slice_products", "slice_sums", "spread", "widened"]


@dataclass(frozen=True)
class SliceView:
    """All slices of ``parameter``, seen with ``shape``, obtained by fixing the indices along the ``kept`` dimensions.

    Slices are numbered in row-major order of the kept dimensions. Rows of a matrix are ``kept=(0,)``, columns
    ``kept=(1,)``; input channels of a linear layer behind a flatten are ``shape=(out, channels, area), kept=(1,)``.
    """

    parameter: str
    shape: tuple[int, ...]
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.kept) != sorted(set(self.kept)) or any(not 0 <= k < len(self.shape) for k in self.kept):
            raise ValueError(
                f"slice view of {self.parameter!r}: kept dimensions {self.kept} must be increasing positions of the "
                f"view's shape {self.shape}"
            )

    @property
    def size(self) -> int:
        """Number of slices."""
        return math.prod(self.shape[k] for k in self.kept)

    @property
    def summed(self) -> tuple[int, ...]:
        """The dimensions that are summed over."""
        return tuple(d for d in range(len(self.shape)) if d not in self.kept)


@dataclass(frozen=True, eq=False)
class SliceTerm:
    """Coefficients S[charge, slice] of one view, as coordinates: ``S[charges[k], slices[k]] = coefficients[k]``."""

    view: SliceView
    charges: np.ndarray
    slices: np.ndarray
    coefficients: np.ndarray

    def offset(self, by: int) -> SliceTerm:
        """The same term with its charges renumbered ``by`` higher."""
        return SliceTerm(self.view, self.charges + by, self.slices, self.coefficients)


def _reduce(product: Tensor, view: SliceView) -> Float64[Tensor, " slices"]:
    seen = product.reshape(view.shape)
    return (seen.sum(dim=view.summed) if view.summed else seen).reshape(-1)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in double precision, complex where it is complex."""
    return tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)


def slice_products(a: Tensor, b: Tensor, views: Sequence[SliceView]) -> list[Float64[Tensor, " slices"]]:
    """e[i] = Σ over slice i of a·b in float64, for every view, from one elementwise product.

    Of complex tensors, the real part of a·b̄: the product of their real and imaginary parts as one real vector.

    >>> a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> rows, columns = SliceView("w", (2, 2), (0,)), SliceView("w", (2, 2), (1,))
    >>> [e.tolist() for e in slice_products(a, a, [rows, columns])]
    [[5.0, 25.0], [10.0, 20.0]]
    """
    left = widened(a)
    right = left if a is b else widened(b)
    product = (left * right.conj()).real if left.is_complex() or right.is_complex() else left * right
    return [_reduce(product, view) for view in views]


def slice_sums(a: Tensor, views: Sequence[SliceView]) -> list[Float64[Tensor, " slices"]]:
    """s[i] = Σ over slice i of a, in float64, for every view.

    >>> slice_sums(torch.ones(2, 3), [SliceView("w", (2, 3), (1,))])[0].tolist()
    [2.0, 2.0, 2.0]
    """
    wide = a.detach().double()
    return [_reduce(wide, view) for view in views]


def spread(values: Float64[Tensor, " slices"], view: SliceView) -> Tensor:
    """The adjoint of the slice sum: a tensor of the view's shape that is constant on every slice (broadcastable)."""
    return values.reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])


class SliceMix:
    """The sparse matrix S from all slices of all views to ``charges`` charges, applied one parameter at a time.

    Linear in its inputs, so the shares of parameters, or of shards of a parameter, simply add up.
    """

    def __init__(self, charges: int, terms: Iterable[SliceTerm]) -> None:
        self.charges = charges
        self._terms: dict[str, list[SliceTerm]] = {}
        for term in terms:
            self._terms.setdefault(term.view.parameter, []).append(term)
        self._on_device: dict[tuple[str, torch.device], list[tuple[SliceView, Tensor, Tensor, Tensor]]] = {}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that enter any charge."""
        return tuple(self._terms)

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
        values = slice_sums(a, views) if b is None else slice_products(a, b, views)
        for (_, charges, slices, coefficients), value in zip(operands, values, strict=True):
            out.index_add_(0, charges, value[slices] * coefficients)

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
            total += spread(values, view).expand(view.shape).reshape(tuple(shape))
        return total
