"""Everything that can be seen of a model, written out: a slow and obvious record to compare two moments by."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["random_states", "record"]


def record(obj: Any, seen: dict[int, int] | None = None) -> Any:
    """Identity, type and content of an object and of all that its attributes, entries and closures lead to."""
    seen = {} if seen is None else seen
    if id(obj) in seen:
        return ("again", seen[id(obj)])
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    seen[id(obj)] = len(seen)
    name = (id(obj), type(obj).__name__)
    if isinstance(obj, Tensor):
        grad = (id(obj.grad), _bits(obj.grad)) if obj.is_leaf and obj.grad is not None else None
        place = (obj.data_ptr(), obj.stride(), obj.dtype, obj._version, obj.is_leaf, obj.requires_grad)
        return (name, _bits(obj), place, grad, obj._backward_hooks, record(vars(obj), seen))
    if isinstance(obj, nn.Module):
        shared = {k: v for k, v in vars(type(obj)).items() if isinstance(v, int)}
        return (name, shared, record(vars(obj), seen))
    if isinstance(obj, dict):
        return (name, [(key, record(value, seen)) for key, value in obj.items()])
    if isinstance(obj, (list, tuple)):
        return (name, [record(value, seen) for value in obj])
    if isinstance(obj, set):
        return (name, sorted(map(str, obj)))
    if isinstance(obj, torch.Generator):
        return (name, obj.get_state().tolist())
    cells = [cell.cell_contents for cell in getattr(obj, "__closure__", None) or ()]
    if cells and not getattr(obj, "__module__", "").startswith("torch"):
        return (name, [record(value, seen) for value in cells])
    if type(obj).__module__.startswith("tests."):
        return (name, record(vars(obj), seen))
    return name


def _bits(tensor: Tensor) -> bytes:
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return dense.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def random_states() -> tuple[Any, ...]:
    """Python's, numpy's and torch's."""
    array: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), array[1].tobytes(), array[2:], bytes(torch.get_rng_state().numpy())
