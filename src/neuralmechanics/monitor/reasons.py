"""Why a symmetry does not hold in a loop, as far as the loop lets it be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# Of one tensor: so many elements of exactly the largest size are no accident.
_TIES = 2


def why_broken(
    model: nn.Module, gradients: Mapping[str, Tensor], requires: Sequence[str], parameters: Sequence[str]
) -> str:
    """What was seen that breaks ⟨g,ξ⟩ = 0 for charges of these parameters; else what it may be."""
    if any("training mode" in need for need in requires) and (norm := _norm_in_evaluation(model)):
        return f"{norm!r} is in evaluation mode, the symmetry holds for batch statistics"
    clipped = [name for name in parameters if name in gradients and _clipped(gradients[name])]
    if clipped:
        return f"the gradient of {clipped[0]!r} is clipped by value"
    frozen = [name for name in parameters if name not in gradients or not gradients[name].any()]
    if 0 < len(frozen) < len(parameters):
        return f"{frozen[0]!r} has no gradient while others of its charge have"
    return (
        "the loop's gradient is not that of the loss the symmetries were found for (a penalty, another mode or loss, "
        "state carried over, elements of the gradient changed?)"
    )


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
