"""Gradients of a black box at random points: parameters go in, gradients come out, nothing else is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.functional.as_found import RunState
from neuralmechanics.functional.pure_loss import fixed_randomness, scalar

__all__ = ["Sample", "parameters_of", "sample_gradients"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One point, and the gradient there, in float64; the gradient has unit size over all parameters."""

    params: Mapping[str, Tensor]
    gradient: Mapping[str, Tensor]


def parameters_of(model: Any) -> dict[str, Tensor]:
    """The trainable leaves of anything that has ``named_parameters`` or ``parameters``, or of a mapping of tensors."""
    if isinstance(model, Mapping):
        named = dict(model)
    elif hasattr(model, "named_parameters"):
        named = dict(model.named_parameters())
    elif hasattr(model, "parameters"):
        named = {f"parameter{k}": p for k, p in enumerate(model.parameters())}
    else:
        raise TypeError(f"{type(model).__name__} has no parameters(); give it one, or pass a mapping of tensors")
    kept = {name: p for name, p in named.items() if isinstance(p, Tensor) and p.requires_grad}
    if not kept:
        raise ValueError("the model has no trainable parameter; a probe needs tensors with requires_grad")
    return kept


def sample_gradients(
    model: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Sequence[Any],
    count: int,
    amount: float,
    seed: int,
) -> Iterator[Sample]:
    """Gradients at ``count`` points around the present parameters, over the batches in turn.

    Every point moves every element by ``amount`` times the tensor's size, normally distributed. Parameters are
    overwritten meanwhile and restored bit by bit; all other state is the model's own at each point. Points
    where the gradient is not finite are drawn again; ValueError where that happens too often.
    """
    params = parameters_of(model)
    draw = torch.Generator().manual_seed(seed)
    runs = RunState(model, loss_fn, fixed=params.values())
    with _restored(params) as origin:
        done = failures = 0
        while done < count:
            values = {name: _moved(value, amount, draw) for name, value in origin.items()}
            with runs.fresh():
                gradient = _gradient(model, loss_fn, batches[done % len(batches)], params, values, seed)
            size = torch.stack([g.abs().max() for g in gradient.values() if g.numel()]).max()
            if not bool(torch.isfinite(size)) or float(size) == 0:
                failures += 1
                if failures > 10 + count:
                    raise ValueError(
                        "the gradient is zero or not finite at most points; lower amount=, or check the loss"
                    )
                continue
            done += 1
            yield Sample(values, {name: g / size for name, g in gradient.items()})


def _gradient(
    model: Any, loss_fn: Callable[[Any, Any], Tensor], batch: Any, params: Mapping[str, Tensor],
    values: Mapping[str, Tensor], seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    # Into the parameters themselves: nothing else reaches what a compiled or scripted model reads.
    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(values[name])
    with fixed_randomness(seed), torch.enable_grad():
        loss = scalar(loss_fn(model, batch), seed)
        parts = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    return {name: part.detach().double().cpu() for name, part in zip(params, parts, strict=True)}


def _moved(value: Tensor, amount: float, draw: torch.Generator) -> Tensor:
    """A neighbour, rounded to the tensor's own precision, in float64."""
    size = float(value.square().mean().sqrt()) if value.numel() else 0.0
    noise = torch.randn(value.shape, generator=draw, dtype=torch.float64)
    return (value + amount * (size or 0.1) * noise).to(value.dtype)


@contextmanager
def _restored(params: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    saved = [(tensor, tensor.detach().clone()) for tensor in params.values()]
    try:
        yield {name: p.detach().cpu().clone() for name, p in params.items()}
    finally:
        with torch.no_grad():
            for tensor, copy in saved:
                tensor.copy_(copy)
