"""Steps of any optimiser on a float64 copy of a model, from given parameters and an empty state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from neuralmechanics.functional.as_found import double_copy
from neuralmechanics.functional.batches import running_on
from neuralmechanics.functional.inputs import to_double
from neuralmechanics.optimizers.closures import require_plain_step

__all__ = ["OptimizerFactory", "StepFunction", "optimizer_path"]

Parameters = dict[str, Tensor]


class OptimizerFactory(Protocol):
    """Makes an optimiser of parameters: ``lambda parameters: torch.optim.Adam(parameters, lr=1e-3)``."""

    def __call__(self, params: Iterable[nn.Parameter], /) -> torch.optim.Optimizer: ...


class StepFunction(Protocol):
    """One step as a function: the updates d by name, from parameters, gradients and a state dict that it may fill."""

    def __call__(
        self, params: Mapping[str, Tensor], gradients: Mapping[str, Tensor], state: dict[str, Any], /
    ) -> Mapping[str, Tensor]: ...


def optimizer_path(
    optimizer: OptimizerFactory | StepFunction,
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> list[Parameters]:
    """θ_0 … θ_K over one step a batch, in float64; ``start`` replaces the model's parameters.

    Random layers draw the same numbers on every path. Raises TypeError where ``optimizer`` is neither a factory (one
    required argument) nor a step function (three), or gives something else than an optimiser or updates.
    """
    double = double_copy(model, "cpu")
    named = dict(double.named_parameters())
    if start is not None:
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(start[name])
    trainable = {name: p for name, p in named.items() if p.requires_grad}
    advance = _advance(optimizer, trainable)
    path = [{name: p.detach().clone() for name, p in named.items()}]
    for step, batch in enumerate(batches):
        # None and not zero: an optimiser skips a parameter without a gradient, and would let zeros decay and drift.
        double.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed + step)
            with running_on(batches, step):
                loss = loss_fn(double, to_double(batch))
        if loss.numel() != 1:
            raise ValueError(f"loss_fn returned shape {tuple(loss.shape)}; one number is needed, such as the mean")
        loss.backward()  # type: ignore[no-untyped-call]
        advance()
        path.append({name: p.detach().clone() for name, p in named.items()})
    return path


def _advance(optimizer: OptimizerFactory | StepFunction, trainable: Mapping[str, nn.Parameter]) -> Callable[[], None]:
    if not callable(optimizer):
        raise TypeError(
            f"the optimizer is a {type(optimizer).__name__}; give a function that makes one, such as lambda params: "
            "torch.optim.SGD(params, lr=0.1), or a step function (parameters, gradients, state)"
        )
    required = [
        p
        for p in inspect.signature(optimizer).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) == 1:
        made = cast("OptimizerFactory", optimizer)(list(trainable.values()))
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(f"the optimizer factory returned {type(made).__name__}; a torch.optim.Optimizer is needed")
        require_plain_step(made)

        def step_optimizer() -> None:
            made.step()

        return step_optimizer
    if len(required) != 3:
        raise TypeError(
            f"the optimizer takes {len(required)} required arguments; pass a factory of one (parameters) or a step "
            "function of three (parameters, gradients, state)"
        )
    step = cast("StepFunction", optimizer)
    state: dict[str, Any] = {}

    def step_function() -> None:
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trainable.items()}
        updates = step({n: p.detach() for n, p in trainable.items()}, gradients, state)
        if not isinstance(updates, Mapping) or updates.keys() != trainable.keys():
            lacking = sorted(trainable.keys() ^ updates.keys()) if isinstance(updates, Mapping) else []
            found = f"{', '.join(lacking)} on one side only" if lacking else f"a {type(updates).__name__}"
            raise TypeError(
                f"the step function must return an update (not the new value) for each trainable parameter: {found}"
            )
        with torch.no_grad():
            for name, update in updates.items():
                trainable[name].add_(update)

    return step_function
