"""Tensors with their dimensions as they lie in memory, complex ones as their real and imaginary parts."""

from __future__ import annotations

import torch
from torch import Tensor

from neuralmechanics.slices.blocks import Derived, Operand
from neuralmechanics.slices.views import SliceView

__all__ = ["in_memory", "memory_order", "ordered", "placed", "real_view"]


def in_memory(operand: Operand, order: tuple[int, ...] | None) -> Operand:
    """The operand with its elements one after the other in memory, in the order of the layout."""
    if isinstance(operand, Tensor):
        if order is None and operand.is_contiguous() and not operand.is_complex():
            return operand
        return placed(operand, order).contiguous()
    first, second = (placed(t, order).contiguous() for t in (operand.first, operand.second))
    return Derived(first, second, operand.adam)


def ordered(operand: Operand, order: tuple[int, ...] | None) -> Operand:
    if isinstance(operand, Tensor):
        return placed(operand, order)
    return Derived(placed(operand.first, order), placed(operand.second, order), operand.adam)


def placed(tensor: Tensor, order: tuple[int, ...] | None) -> Tensor:
    """Its dimensions as they lie in memory; a complex tensor as its real and imaginary parts."""
    # Torch conjugates by a flag, and has no real view of a tensor whose flag is set.
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real if order is None else real.permute(order)


def memory_order(parameter: Tensor) -> tuple[int, ...] | None:
    """The dimensions as they lie in memory, None where that is their own order or they overlap."""
    if parameter.is_contiguous() or parameter.is_complex():
        return None
    strides = parameter.stride()
    # Dimensions by falling strides; equal ones, as length one has them, stay in their own order.
    order = tuple(sorted(range(parameter.dim()), key=lambda d: (-strides[d], d)))
    return order if parameter.permute(order).is_contiguous() else None


def real_view(view: SliceView, parameter: Tensor) -> SliceView:
    """The view of a complex tensor's real and imaginary parts, which are both summed over."""
    return SliceView(view.parameter, (*view.shape, 2), view.kept) if parameter.is_complex() else view
