"""A loss over named parameters made from a module, a loss function and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuralmechanics.functional.as_found import RunState, double_copy, kept_randomness, left_as_found

__all__ = ["ModuleLoss", "module_loss", "module_losses"]


class _Closure(nn.Module):
    """Turns loss_fn(model, batch) into a module's forward, so that its parameters can be swapped."""

    def __init__(self, model: nn.Module, loss_fn: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self.loss_fn(self.model, batch)


class ModuleLoss:
    """L(θ) of a float64 copy of a module on one batch; ``theta0`` holds the parameters it came with.

    Buffers and all other state are the module's own at the start of each call, so L is a function.
    Tied parameters are one. Attention uses the kernel whose second derivatives exist. A loss that differentiates inside
    does so under ``no_grad`` too. The copy's own parameters follow θ: checkpoints compute again from them.
    """

    def __init__(self, model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: Any) -> None:
        _require_kinds(model, loss_fn, batch)
        self._closure = _Closure(double_copy(model), loss_fn)
        self._runs = RunState(self._closure)
        self._batch = _to_float64(batch)
        trainable = {name: p for name, p in self._closure.model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError(f"{type(model).__name__} has no parameter with requires_grad=True: nothing can flow")
        self.theta0: dict[str, Tensor] = {name: p.detach().clone() for name, p in trainable.items()}
        with left_as_found(model, loss_fn, batch), torch.no_grad():
            first, second = float(self._evaluate(self.theta0)), float(self._evaluate(self.theta0))
        first_names = {id(p): name for name, p in self._closure.model.named_parameters()}
        self._first_names = {
            name: first_names[id(p)] for name, p in self._closure.model.named_parameters(remove_duplicate=False)
        }
        # NaN is left for the integrator to name; two different numbers mean dropout or another random layer.
        if first == first and first != second:
            raise ValueError(
                f"the loss of {type(model).__name__} is random ({first:.6g}, then {second:.6g}): "
                "set dropout to 0 or call model.eval() first, a flow needs a function"
            )

    def __call__(self, params: dict[str, Tensor]) -> Tensor:
        if unknown := params.keys() - self._first_names.keys():
            raise ValueError(f"the model has no parameter {min(unknown)!r}; parameters: {', '.join(self.theta0)}")
        # A tied parameter is given under any of its names.
        if missing := self.theta0.keys() - {self._first_names[name] for name in params}:
            raise ValueError(
                f"the parameters lack {min(missing)!r}, which would stay as it is; give all of theta0, and freeze what "
                "is to stay with requires_grad_(False)"
            )
        restore_randomness = kept_randomness()
        try:
            return self._evaluate(params)
        finally:
            restore_randomness()

    def _evaluate(self, params: dict[str, Tensor]) -> Tensor:
        if not torch.is_grad_enabled():
            # A loss that differentiates inside needs its graph even where nobody asks for the outer gradient.
            with torch.enable_grad():
                leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
                return self._evaluate(leaves).detach()
        with torch.no_grad():
            # Checkpointed blocks compute again from the parameters of the module, not from those swapped in.
            for name, own in self._closure.model.named_parameters():
                if name in params:
                    own.copy_(params[name])
        # Copies: a model that writes into its weights must not write into the caller's.
        state = {f"model.{name}": value.clone() for name, value in params.items()}
        with self._runs.fresh(_to_float64), sdpa_kernel(SDPBackend.MATH):
            value = functional_call(self._closure, state, (self._batch,))
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"loss_fn returned {found}, expected one number: reduce it, for example with .mean()")
        return value


def _require_kinds(model: object, loss_fn: object, batch: object) -> None:
    """Refuse what is no module with a loss function."""
    if not isinstance(model, nn.Module) or not callable(loss_fn):
        found = f"({type(model).__name__}, {type(loss_fn).__name__}, {type(batch).__name__})"
        raise TypeError(f"module_loss takes (a module, loss_fn(model, batch), a batch), got {found}")


def module_loss(model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: Any) -> ModuleLoss:
    """L(θ) = loss_fn(model with parameters θ, batch), in float64 on a copy; ``.theta0`` are the model's own.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> loss = module_loss(model, lambda m, x: m(x).square().mean(), torch.ones(3, 2))
    >>> sorted(loss.theta0), loss({"weight": torch.ones(1, 2, dtype=torch.float64)}).item()
    (['weight'], 4.0)
    """
    return ModuleLoss(model, loss_fn, batch)


def module_losses(
    model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batches: Sequence[Any]
) -> Callable[[dict[str, Tensor]], Tensor]:
    """The vector of losses of several batches, whose spread is the noise of training on one of them at a time."""
    if not batches:
        raise ValueError("batches is empty: the noise needs at least two")
    losses = [ModuleLoss(model, loss_fn, batch) for batch in batches]
    return lambda params: torch.stack([loss(params).reshape(()) for loss in losses])


def _to_float64(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(torch.float64) if value.is_floating_point() else value
    # A named tuple takes its entries one by one, where other sequences take one iterable.
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_to_float64, value))
    if isinstance(value, tuple | list):
        return type(value)(map(_to_float64, value))
    if isinstance(value, dict):
        return {key: _to_float64(entry) for key, entry in value.items()}
    return value
