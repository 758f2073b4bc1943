"""Bilinear sums over slices of tensors, in double precision: plain and whole, the reference of everything faster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.views import SliceView

__all__ = ["slice_products", "slice_sums", "widened"]


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
