"""Two checkpoints as the matching reads them: in float64, tied names once; and the function that they are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from neuralmechanics.files.weights import misfit
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.calling import LossFunction, Whole, names_of, unwrapped
from neuralmechanics.functional.precision import unit
from neuralmechanics.functional.pure_loss import fixed_randomness
from neuralmechanics.rewrite.comparing.parts.network import Network

__all__ = ["Function", "completed", "read", "require_checkpoints", "rounding", "untied_in", "without_common_strangers"]

_LEAST, _MOST = 1e-9, 0.05
_ROUNDINGS = 1e3  # how many roundings of one element a conversion may leave


@dataclass(frozen=True)
class Function:
    """θ ↦ every number of the output (or the loss) on one batch, in float64 where the model can be run in it."""

    model: nn.Module
    batch: Any
    loss_fn: LossFunction | None = None

    def __call__(self, params: Mapping[str, Tensor]) -> Tensor:
        """The output at ``params``; tensors that are absent keep the model's own values."""
        with torch.no_grad():
            return self._whole(params)

    def change(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
        """‖f(after) - f(before)‖ / ‖f(before)‖."""
        old, new = self(before), self(after)
        size = float(old.norm())
        gap = float((new - old).norm())
        return gap / size if size else gap

    def pulled(
        self, params: Mapping[str, Tensor], value: Callable[[Tensor], Tensor]
    ) -> tuple[float, dict[str, Tensor]]:
        """``value`` of the output at ``params``, and its gradient by those that it depends on."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
        with torch.enable_grad():
            found = value(self._whole(leaves))
            if not found.requires_grad:
                return float(found), {}
            reached = torch.autograd.grad(found, list(leaves.values()), allow_unused=True)
        gradients = zip(leaves, reached, strict=True)
        return float(found.detach()), {name: gradient for name, gradient in gradients if gradient is not None}

    def _whole(self, params: Mapping[str, Tensor]) -> Tensor:
        try:
            return self._run(params, torch.float64)
        except RuntimeError:  # a constant that the model makes in another precision
            return self._run(params, None)

    def _run(self, params: Mapping[str, Tensor], dtype: torch.dtype | None) -> Tensor:
        model = unwrapped(self.model)
        first = names_of(Whole(model, None)).canonical
        own = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        state = {}
        for name, value in own.items():
            given = params.get(name, params.get(first.get(name, name), value.detach()))
            wanted = dtype if dtype is not None else value.dtype
            state[f"model.{name}"] = given.to(wanted).clone() if given.is_floating_point() else given.clone()
        batch = pytree.tree_map(lambda leaf: _cast(leaf, dtype), self.batch)
        kept = left_as_found(model, self.loss_fn, self.batch, parameters=False)
        with kept, fixed_randomness(0):
            found = functional_call(Whole(model, self.loss_fn), state, (batch,), tie_weights=False)
        return torch.cat([part.double().reshape(-1) for part in found])


def _cast(leaf: Any, dtype: torch.dtype | None) -> Any:
    return leaf.to(dtype) if dtype is not None and isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def require_checkpoints(*given: object) -> None:
    """TypeError where these are not tensors by name."""
    for checkpoint in given:
        if not isinstance(checkpoint, Mapping):
            remedy = "its state_dict()" if isinstance(checkpoint, nn.Module) else "a state dict, loaded"
            raise TypeError(f"a checkpoint is given as a {type(checkpoint).__name__}; give {remedy}")
        for name, value in checkpoint.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name!r} of a checkpoint is a {type(value).__name__}; give tensors by name")


def without_common_strangers(
    model: nn.Module, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both checkpoints without the tensors that the model does not have and that are the same in both, bit for bit."""
    require_checkpoints(a, b)
    plain = unwrapped(model)
    own = {name for name, _ in (*plain.named_parameters(remove_duplicate=False), *plain.named_buffers())}
    same = {name for name in a.keys() & b.keys() - own if torch.equal(a[name], b[name])}
    left, right = ({name: value for name, value in given.items() if name not in same} for given in (a, b))
    return left, right


def completed(network: Network, model: nn.Module, given: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """A checkpoint with the model's own buffers where it has none.

    ``ValueError`` for a missing parameter, for one of another shape or kind than the model's, and for a tensor that
    the model does not have: what it does could not be compared.
    """
    buffers = dict(unwrapped(model).named_buffers())
    own = {**dict(unwrapped(model).named_parameters(remove_duplicate=False)), **buffers}
    for name, value in given.items():
        if name not in own:
            raise ValueError(
                f"the model has no {name!r}, which is in {what}; compare with the model of these checkpoints, or leave "
                "the tensor out"
            )
        if wrong := misfit(value, own[name]):
            raise ValueError(f"{name!r} of {what} {wrong}; pass state dicts of this model")
    parameters = network.symmetries.capture.get("parameters", {})
    out = dict(given)
    names = {alias: name for alias, name in network.tied.items() if alias in out and name not in out}
    out |= {name: out[alias] for alias, name in names.items()}
    for name in network.tensors:
        if name in out:
            continue
        if name in parameters:
            raise ValueError(f"parameter {name!r} is missing in {what}; pass a whole state dict of the same model")
        out[name] = buffers[name]
    return out


def read(given: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Float64 copies of the named tensors; a ``ValueError`` names one that is complex, or not finite when squared."""
    out = {}
    for name in names:
        value = given[name].detach()
        if value.is_complex():
            raise ValueError(f"tensor {name!r} is complex; comparing needs real ones: give torch.view_as_real of it")
        out[name] = value.to("cpu", torch.float64)
        if not math.isfinite(torch.linalg.vector_norm(out[name])):
            what = "whose squares overflow" if bool(value.isfinite().all()) else "that are not finite"
            raise ValueError(f"tensor {name!r} holds values {what}; comparing needs finite ones")
    return out


def untied_in(network: Network, given: Mapping[str, Tensor]) -> list[str]:
    """Second names of tied parameters that hold other numbers than the first."""
    return [
        alias
        for alias, name in network.tied.items()
        if alias in given and name in given and not torch.equal(given[alias], given[name])
    ]


def rounding(*checkpoints: Mapping[str, Tensor]) -> float:
    """The relative gap of a tensor that rounding may leave, by the coarsest dtype: 1e-9 to 0.05."""
    dtypes = {v.dtype for params in checkpoints for v in params.values() if v.is_floating_point()}
    coarsest = max((unit(dtype) for dtype in dtypes), default=0.0)
    return min(max(_LEAST, _ROUNDINGS * coarsest), _MOST)
