"""Outputs and gradients of the model, and of the graph, at one point."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from neuralmechanics.functional.calling import Whole
from neuralmechanics.symmetry.lowering.capture.captured import Captured, Source
from neuralmechanics.symmetry.lowering.capture.tracing import SEED
from neuralmechanics.symmetry.lowering.replay.graph_run import Conversion, run_graph
from neuralmechanics.symmetry.lowering.replay.points import (
    LARGE,
    PATTERN,
    Point,
    copied_batch,
    copies,
    is_large,
    widened,
)

__all__ = ["Evaluation", "evaluated", "leaves_of", "model_evaluated", "run_captured"]


@dataclass(frozen=True)
class Evaluation:
    """Outputs, and the gradient of one random combination of them.

    Of each gradient of a large model a few numbers are kept: the products of its pieces with a random vector. ``drew``
    names the generators that random numbers were drawn from, ``written`` a parameter that the run has written into.
    """

    values: Sequence[Tensor]
    gradients: Mapping[str, Tensor]
    drew: frozenset[str] = frozenset()
    written: str = ""


def model_evaluated(whole: Whole, point: Point, *, gradients: bool, wide: bool) -> Evaluation:
    """The model run with its own parameters moved to the point, so that whoever else refers to them sees them move.

    Large models, and those without content, are given other tensors in their place.
    """
    before = _drawn()
    if is_large(whole) or any(p.is_meta for p in whole.parameters()):
        found = _run_model(whole, point, leaves_of(point.params), gradients)
    else:
        with _moved_to(whole, point) as params, point.state.fresh(widened if wide else _same):
            found = evaluated(list(whole(copied_batch(point.batch))), params, gradients)
            changed = (n for n, p in params.items() if not _equal(p.detach(), point.params[n].to(p.dtype)))
            written = next(changed, "").removeprefix("model.")
            return replace(found, drew=_drawn_since(before), written=written)
    return replace(found, drew=_drawn_since(before))


def _equal(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)


@contextmanager
def _moved_to(whole: Whole, point: Point) -> Iterator[dict[str, Tensor]]:
    """The model's own parameters with the point's values, without gradients, and without what hooks do to these."""
    given = {**point.params, **point.others}
    kept = [(p, p.data, p.grad, p._backward_hooks, p._post_accumulate_grad_hooks) for p in whole.parameters()]
    try:
        for name, parameter in whole.named_parameters():
            parameter.grad, parameter._backward_hooks, parameter._post_accumulate_grad_hooks = None, None, None  # type: ignore[assignment]
            parameter.data = given[name].detach().clone()
        yield {name: whole.get_parameter(name) for name in point.params}
    finally:
        for parameter, data, gradient, hooks, after in kept:
            parameter.grad = None
            parameter.data = data
            parameter.grad, parameter._backward_hooks, parameter._post_accumulate_grad_hooks = gradient, hooks, after


def _drawn_since(before: Mapping[str, Any]) -> frozenset[str]:
    """The generators that random numbers were drawn from."""
    after = _drawn()
    return frozenset(name for name in before if before[name] != after[name])


def _drawn() -> dict[str, Any]:
    """The states of the random generators."""
    name, key, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy = name, np.asarray(key).tobytes(), *rest
    return {"torch": torch.get_rng_state().numpy().tobytes(), "python": random.getstate(), "numpy": numpy}


def _run_model(whole: Whole, point: Point, params: Mapping[str, Tensor], gradients: bool) -> Evaluation:
    """Values and gradients while the tensors stand in the model's place: checkpoints run it again on the way back."""
    tensors = {f"whole.{name}": value for name, value in {**params, **copies(point.others)}.items()}
    evaluated = _Evaluated(whole, params, gradients)
    with point.state.fresh():
        evaluation: Evaluation = functional_call(evaluated, tensors, (copied_batch(point.batch),))
    return evaluation


class _Evaluated(nn.Module):
    """The model with its gradients as results."""

    def __init__(self, whole: Whole, params: Mapping[str, Tensor], gradients: bool) -> None:
        super().__init__()
        self.whole = whole
        self._params, self._gradients = params, gradients
        self.training = whole.training

    def forward(self, batch: Any) -> Evaluation:
        return evaluated(list(self.whole(batch)), self._params, self._gradients)


def run_captured(
    captured: Captured, whole: Whole, point: Point, params: Mapping[str, Tensor], conversion: Conversion
) -> list[Any]:
    tensors = {**params, **copies(point.others)}
    first = _first_names(whole)
    leaves = pytree.tree_leaves(copied_batch(point.batch))

    def value_of(source: Source) -> Any:
        if source.kind == "input":
            return leaves[source.index]
        return conversion.constant(source.value) if source.kind == "constant" else tensors[first[source.name]]

    return run_graph(captured, value_of, conversion)


def _first_names(whole: Whole) -> dict[str, str]:
    """For each name of a parameter or buffer, the first name of the same tensor."""
    first: dict[int, str] = {}
    named = [*whole.named_parameters(remove_duplicate=False), *whole.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def leaves_of(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _same(value: Tensor) -> Tensor:
    return value


def evaluated(results: Sequence[Any], params: Mapping[str, Tensor], gradients: bool) -> Evaluation:
    values = [value for value in results if isinstance(value, Tensor)]
    moving = [value for value in values if value.requires_grad] if gradients else []
    plain = [value.detach() for value in values]
    if not moving:
        return Evaluation(plain, {})
    # The same combination of outputs for the model and for the graph, or their gradients would differ.
    generator = torch.Generator().manual_seed(SEED)
    weights = [torch.randn(v.shape, generator=generator).to(v.device, v.dtype) for v in moving]
    if sum(p.numel() for p in params.values()) > LARGE:
        return Evaluation(plain, _sketches(moving, weights, params))
    found = _gradients(moving, list(params.values()), weights)
    return Evaluation(plain, {n: g.to_dense() for n, g in zip(params, found, strict=True) if g is not None})


def _sketches(moving: list[Tensor], weights: list[Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A few numbers for each gradient, taken as soon as it is there, so that its memory serves the next one."""
    noise = torch.randn(PATTERN, generator=torch.Generator().manual_seed(SEED))
    found: dict[str, Tensor] = {}

    def take(name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        parameter.grad = None
        if gradient is not None:
            dense = gradient.to_dense()
            flat = (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1).float()
            found[name] = _projected(flat, noise.to(flat.device))

    hooks = [p.register_post_accumulate_grad_hook(partial(take, name)) for name, p in params.items()]  # type: ignore[no-untyped-call]
    torch.autograd.backward(moving, weights, inputs=list(params.values()))
    for hook in hooks:
        hook.remove()
    return {name: numbers.double().cpu() for name, numbers in found.items()}


def _projected(flat: Tensor, noise: Tensor) -> Tensor:
    """The products of pieces of a vector, each as long as ``noise``, with it: one read of the vector."""
    rows = flat.numel() // noise.numel()
    whole, rest = flat[: rows * noise.numel()], flat[rows * noise.numel() :]
    last = torch.dot(rest, noise[: rest.numel()]).reshape(1)
    return torch.cat([torch.mv(whole.view(rows, -1), noise), last]) if rows else last


def _gradients(values: list[Tensor], params: list[Tensor], weights: list[Tensor]) -> Sequence[Tensor | None]:
    """By ``autograd.grad``, or by a backward pass where a reentrant checkpoint allows nothing else."""
    try:
        return torch.autograd.grad(values, params, weights, allow_unused=True, retain_graph=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
    torch.autograd.backward(values, weights)
    return [p.grad for p in params]
