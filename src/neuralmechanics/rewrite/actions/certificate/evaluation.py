"""A model's output as one vector, at any parameters and in any precision; the model stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from neuralmechanics.functional.as_found import RunState, kept_randomness
from neuralmechanics.functional.calling import LossFunction, Whole
from neuralmechanics.functional.dispatching import DispatchMode
from neuralmechanics.functional.precision import coarsest_dtype
from neuralmechanics.functional.pure_loss import fixed_randomness

__all__ = ["Evaluation", "WithoutCasts"]

_PREFIX = "model."
_NARROW = (torch.float32, torch.bfloat16, torch.float16)


class WithoutCasts(DispatchMode):  # type: ignore[no-untyped-call]
    """Every conversion to a narrower float, and every tensor made in one, is float64 instead."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = pytree.tree_map(_widened, (args, kwargs or {}))
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


class Evaluation:
    """f(θ) on one batch: all floating-point outputs, one after the other."""

    def __init__(self, model: nn.Module, batch: Any, loss_fn: LossFunction | None) -> None:
        self.batch = batch
        self._whole = Whole(model, loss_fn)
        self._runs = RunState(model, loss_fn)

    def own(self, state: Mapping[str, Tensor]) -> Float64[Tensor, " outputs"]:
        """In the precision of ``state``, as the model computes; ``ValueError`` where it does not run in several."""
        try:
            return self._run(state, double=False)
        except RuntimeError as error:
            leaves = [*state.values(), *pytree.tree_leaves(self.batch)]
            floats = {str(x.dtype) for x in leaves if isinstance(x, Tensor) and x.is_floating_point()}
            if len(floats) < 2:
                raise
            types = ", ".join(sorted(name.removeprefix("torch.") for name in floats))
            why = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"the model does not run with weights and batch of {types} ({why}); give all in one of them"
            ) from error

    def double(self, state: Mapping[str, Tensor], *, casts: bool = True) -> Float64[Tensor, " outputs"]:
        """In float64, where the model can; without ``casts`` also where it asks for less."""
        return self._run(state, double=True, mode=nullcontext() if casts else WithoutCasts())  # type: ignore[no-untyped-call]

    def coarsest(self, state: Mapping[str, Tensor]) -> torch.dtype:
        """The coarsest precision between the parameters and the output when the model runs in float64."""
        leaves = {name: _double(x.detach()).clone().requires_grad_(x.is_floating_point()) for name, x in state.items()}
        with torch.enable_grad():
            out = self._outputs(leaves, double=True)
            floats = {name: x for name, x in leaves.items() if x.is_floating_point()}
            return coarsest_dtype(torch.stack([x.double().sum() for x in out]).sum(), floats)

    @cached_property
    def _doubled(self) -> Any:
        return pytree.tree_map(_double, self.batch)

    def _run(
        self, state: Mapping[str, Tensor], *, double: bool, mode: AbstractContextManager[Any] | None = None
    ) -> Tensor:
        given = {name: (_double(x) if double else x).detach().clone() for name, x in state.items()}
        with torch.no_grad(), mode or nullcontext():
            found = self._outputs(given, double=double)
        flat = [torch.view_as_real(x.detach()) if x.is_complex() else x.detach() for x in found]
        return torch.cat([x.double().reshape(-1).cpu() for x in flat])

    def _outputs(self, state: Mapping[str, Tensor], *, double: bool) -> tuple[Tensor, ...]:
        named = {_PREFIX + name: x for name, x in state.items()}
        batch = self._doubled if double else self.batch
        restore_randomness = kept_randomness()  # a model may draw from Python's and numpy's streams as well
        try:
            with fixed_randomness(0), self._runs.fresh(_double if double else lambda x: x):
                out: tuple[Tensor, ...] = functional_call(self._whole, named, (batch,), tie_weights=False)
        finally:
            restore_randomness()
        if not out:
            raise ValueError("the model returns no floating-point tensor; pass loss_fn(model, batch)")
        return out


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
