"""What differs between two evaluations by more than rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuralmechanics.symmetry.lowering.replay.evaluation import Evaluation

ROUNDINGS = 100

__all__ = ["difference"]


def difference(model: Evaluation, graph: Evaluation, tolerance: float, params: Mapping[str, Tensor]) -> str:
    """What differs by more than rounding, with its size relative to the greatest entry."""
    if len(model.values) != len(graph.values):
        return f"the model has {len(model.values)} outputs, the graph {len(graph.values)}"
    for number, (x, y) in enumerate(zip(model.values, graph.values, strict=True)):
        size = _relative(x, y, max(_greatest(x), _greatest(y)))
        # Not ``size > tolerance``, which is false for nan.
        if not size <= tolerance:
            which = "the value" if len(model.values) == 1 else f"output {number}"
            return f"{which} differs by {size:.1e} of its size"
    # A gradient of the model that is no number says nothing, and nothing can be trained with it.
    undefined = {name for name, gradient in model.gradients.items() if not gradient.isfinite().all()}
    names = [name for name in {**model.gradients, **graph.gradients} if name not in undefined]
    pairs = [_both(model.gradients.get(name), graph.gradients.get(name)) for name in names]
    for name, size, pair in zip(names, _relative_sizes(pairs), pairs, strict=True):
        if not size <= 10 * tolerance and not _is_rounding(*pair, model.values, params[name]):
            return f"the gradient of {name.removeprefix('model.')} differs by {size:.1e} of its size"
    return ""


def _is_rounding(x: Tensor, y: Tensor, values: Sequence[Tensor], parameter: Tensor) -> bool:
    """Whether two gradients differ by some hundred roundings of what they are made of: outputs over the parameter.

    A gradient that is zero, as a symmetry makes it, is nothing but rounding, and nothing to compare by its own size.
    """
    floating = [value for value in values if value.dtype.is_floating_point or value.is_complex()]
    if x.shape != y.shape or not floating:
        return False
    unit = max(torch.finfo(value.dtype).eps for value in floating)
    outputs = math.hypot(*(float(torch.linalg.vector_norm(value)) for value in floating))
    return _greatest(x - y) <= ROUNDINGS * unit * outputs / (_greatest(parameter.detach()) or 1.0)


def _both(x: Tensor | None, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Two gradients, with zero for the one that is missing."""
    if x is None or y is None:
        known = x if x is not None else y
        assert known is not None
        return (known, torch.zeros_like(known)) if y is None else (torch.zeros_like(known), known)
    return x, y


def _relative_sizes(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """The greatest difference of each pair, in units of its greatest entry or of a thousandth of that of all pairs."""
    scales = [max(_greatest(x), _greatest(y)) for x, y in pairs]
    # A gradient that is tiny beside the others is mostly their rounding.
    floor = 1e-3 * max((scale for scale in scales if math.isfinite(scale)), default=0.0)
    return [_relative(x, y, max(scale, floor)) for (x, y), scale in zip(pairs, scales, strict=True)]


def _relative(x: Tensor, y: Tensor, scale: float) -> float:
    """The greatest difference in units of ``scale``; nan meets nan, and infinity itself."""
    if x.shape != y.shape:
        return math.inf
    if not math.isfinite(scale):
        same = torch.allclose(x, y, rtol=1e-2, equal_nan=True)
        return 0.0 if same else math.inf
    return _greatest(x - y) / scale if scale > 0 else 0.0


def _greatest(x: Tensor) -> float:
    """The size of the greatest entry (aminmax is ten times as fast as the norm); nan if there is one."""
    if not x.numel():
        return 0.0
    low, high = torch.aminmax(torch.view_as_real(x) if x.is_complex() else x)
    return max(-float(low), float(high))
