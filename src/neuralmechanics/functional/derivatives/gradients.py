"""One backward pass that leaves no trace: gradients by name, the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.as_found import left_as_found

__all__ = ["gradients_once"]


def gradients_once(
    model: nn.Module, loss_fn: Callable[[Any, Any], Tensor] | None, batch: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The trainable parameters and their gradients, zeros where the loss does not depend on one.

    Without ``loss_fn`` the loss is a fixed random combination of the outputs. ``.grad`` fields stay as they are.
    """
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with left_as_found(model, loss_fn, batch), torch.enable_grad():
        # For dropout and the like; `left_as_found` puts the streams back.
        torch.manual_seed(0)
        loss = loss_fn(model, batch) if loss_fn is not None else _probe(_called(model, batch))
        if loss.numel() != 1:
            raise ValueError(f"loss_fn returned a tensor of shape {tuple(loss.shape)}; it must return one number")
        # Not `backward()`, which would add to the `.grad` of a training that is under way.
        found = torch.autograd.grad(loss.reshape(()), list(params.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(p) if g is None else g.detach()
        for (name, p), g in zip(params.items(), found, strict=True)
    }
    return {name: p.detach() for name, p in params.items()}, gradients


def _called(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _probe(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        values = list(output.values()) if hasattr(output, "values") else list(output)
        output = next(v for v in values if v is not None)
    return (output * torch.randn_like(output)).sum()
