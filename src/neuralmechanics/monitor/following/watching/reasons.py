"""Why a symmetry does not hold in a loop, as far as the loop lets it be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import Family

# Of one tensor: so many elements of exactly the largest size are no accident.
_TIES = 2


@dataclass(frozen=True)
class Reason:
    """Why a symmetry does not hold: the kind of cause, spoken of once, and the text that names what was seen."""

    kind: str
    text: str


_UNSEEN = Reason(
    "unseen",
    "the loop's gradient is not that of the loss the symmetries were found for (a penalty, another mode or loss, state "
    "carried over, a gradient at other parameters as in SAM, elements of it changed?)",
)


def why_broken(model: nn.Module, gradients: Mapping[str, Tensor], family: Family) -> Reason:
    """What was seen that breaks ⟨g,ξ⟩ = 0 for charges of a family; else what it may be."""
    parameters = family.parameters
    if any("training mode" in need for need in family.requires) and (norm := _norm_in_evaluation(model)):
        return Reason("mode", f"{norm!r} is in evaluation mode, the symmetry holds for batch statistics")
    clipped = [name for name in parameters if name in gradients and _clipped(gradients[name])]
    if clipped:
        return Reason("clipping", f"the gradient of {clipped[0]!r} is clipped by value")
    without = [name for name in parameters if gradients and (name not in gradients or not gradients[name].any())]
    if 0 < len(without) < len(parameters):
        return Reason("missing", f"{without[0]!r} has no gradient while others of its charges have")
    if family.broken_by:
        return Reason("constant", f"{family.broken_by[0]} is no longer small beside the variance, or {_UNSEEN.text}")
    return _UNSEEN


def _norm_in_evaluation(model: nn.Module) -> str | None:
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None and not module.training:
            return str(name)
    return None


def _clipped(gradient: Tensor) -> bool:
    """Whether several elements have exactly the largest size, as after a clamp."""
    size = gradient.detach().abs()
    if size.numel() < _TIES:
        return False
    largest = size.max()
    return bool(largest > 0) and int((size == largest).sum()) >= _TIES and bool(torch.isfinite(largest))
