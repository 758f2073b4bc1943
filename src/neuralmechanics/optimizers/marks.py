"""Marks of tensors that change when these are written, as torch counts it; writes through `.data` are not counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["mark", "slope_marks", "state_marks", "written"]


def written(tensor: Tensor) -> tuple[int, int]:
    """Which tensor it is and how often it was written."""
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def mark(parameter: Tensor) -> tuple[int, ...]:
    """The same of a parameter and its gradient."""
    gradient = parameter.grad
    return (parameter._version, 0, 0) if gradient is None else (parameter._version, id(gradient), gradient._version)


def state_marks(optimizer: Optimizer, states: Iterable[Mapping[str, Any]]) -> list[object]:
    """Of all that the updates of Adam and its kin are told from beside them: the groups' numbers and these states."""
    numbers = [value for group in optimizer.param_groups for key, value in group.items() if key != "params"]
    return [*numbers, *(written(value) for state in states for value in state.values() if isinstance(value, Tensor))]


def slope_marks(parameters: Iterable[Tensor]) -> list[object]:
    """Of gradients alone: others when a step has taken new ones (a closure) or has written into them."""
    return [None if p.grad is None else written(p.grad) for p in parameters]
