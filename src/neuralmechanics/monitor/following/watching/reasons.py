"""Why a symmetry does not hold in a loop, as far as the loop lets it be seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    signs = _signs(gradients.values())
    if clipped := _clipped(gradients, parameters):
        known = ", or signs alone are kept of gradients" if signs else ""
        return Reason("clipping", f"the gradient of {clipped!r} is clipped by value{known}")
    if signs:
        return Reason("signs", "signs alone are kept of gradients: the elements of each have one size")
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


def _clipped(gradients: Mapping[str, Tensor], parameters: Iterable[str]) -> str | None:
    """A parameter whose gradient was clamped: several elements have exactly the largest size, and it is the bound.

    A clamp leaves the same bound everywhere. Where a second gradient has another size tied, or none, the ties of one
    may be those of the loss: a bias behind a softmax that has become constant has one for each class of equal count.
    """
    bounds = {name: bound for name, gradient in gradients.items() if (bound := _tied_size(gradient))}
    for name in parameters:
        if name in bounds and (len(gradients) == 1 or sum(bound == bounds[name] for bound in bounds.values()) > 1):
            return name
    return None


def _signs(gradients: Iterable[Tensor]) -> bool:
    """Whether the elements of every gradient differ in sign alone, zeros apart."""
    sizes = [g.detach().abs() for g in gradients if g.numel() >= _TIES]
    return bool(sizes) and all(_one_size(size) for size in sizes)


def _one_size(size: Tensor) -> bool:
    largest = size.max()
    return bool(((size == largest) | (size == 0)).all() & (largest > 0) & torch.isfinite(largest))


def _tied_size(gradient: Tensor) -> float:
    """The largest size of an element if several have exactly it, else 0."""
    size = gradient.detach().abs()
    if size.numel() < _TIES:
        return 0.0
    largest = size.max()
    tied = bool(torch.isfinite(largest)) and int((size == largest).sum()) >= _TIES
    return float(largest) if tied else 0.0
