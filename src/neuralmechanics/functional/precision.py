"""How large rounding is: the precision that a loss is really computed in, and parameters moved by one rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["coarsest_dtype", "jitter", "unit"]


def unit(dtype: torch.dtype) -> float:
    """The spacing of ``dtype`` at one: one rounding.

    >>> unit(torch.float64), unit(torch.bfloat16)
    (2.220446049250313e-16, 0.0078125)
    """
    return float(torch.finfo(dtype).eps)


def coarsest_dtype(loss: Tensor, params: Mapping[str, Tensor]) -> torch.dtype:
    """The coarsest floating-point type on any path from a parameter to ``loss`` (autocast, norms in float32).

    Read off the autograd graph: constants that no parameter enters, such as rotary tables, do not count.
    """
    found = {p.dtype for p in params.values() if p.is_floating_point()} | {loss.dtype}
    seen: set[Any] = set()
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # The metadata of a node's incoming gradients are the types of the tensors that the forward pass made.
        found |= {meta.dtype for meta in getattr(node, "_input_metadata", ()) if meta.dtype.is_floating_point}
        stack += [parent for parent, _ in node.next_functions]
    return max(found, key=unit)


def jitter(params: Mapping[str, Tensor], rounding: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters with every element moved by up to one rounding, at random.

    What a quantity that should be zero does under it is the noise that rounding leaves in it.
    """
    out = {}
    for name, value in params.items():
        noise = 2 * torch.rand(value.shape, generator=generator, dtype=torch.float64) - 1
        # Rounded at the end alone: in the type itself the factor would be one of a few numbers around 1.
        moved = value.detach().double() * (1 + rounding * noise.to(value.device))
        out[name] = moved.to(value.dtype)
    return out
