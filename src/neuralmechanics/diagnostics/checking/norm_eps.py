"""What the eps of norms must leave in ⟨g, ξ⟩: Σ d · eps/(σ² + eps) · Σ ∂L/∂y · y over every normalised group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from neuralmechanics.diagnostics.checking.orbits import Path
from neuralmechanics.functional.pure_loss import Objective

__all__ = ["norm_eps_residual"]

# The rate's error is of order t², far below the twentieth that a residual may miss the formula by.
_TIME = 1e-2


def norm_eps_residual(objective: Objective, params: Mapping[str, Tensor], path: Path) -> float:
    """⟨g, ξ⟩ as the eps of the model's norms predict it, without looking at the gradient of any parameter.

    For y = (z - μ)/√(σ² + eps) and a ``path`` through ``params`` along which z scales as e^{dt}, each group of z adds
    d · eps/(σ² + eps) · Σ ∂L/∂y · y. The rate d of every group is read off the variances of z a step along the orbit
    and back. Norms that run through ``torch.nn.functional`` are seen, written-out ones are not; norms on running
    statistics keep no scale symmetry and add nothing; NaN where no norm is seen at all. Source: theory, section 1.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with _Norms() as here:
        loss = objective(leaves)
    if not here.calls:
        return math.nan
    slopes = torch.autograd.grad(loss, [call.output for call in here.calls], allow_unused=True, materialize_grads=True)
    there = []
    for sign in (1, -1):
        moved = path(sign * _TIME)
        with torch.enable_grad(), _Norms() as seen:  # a loss may differentiate inside
            objective({name: p.detach().requires_grad_() for name, p in moved.items()})
        there.append(seen.calls)
    total = 0.0
    for call, grad, ahead, behind in zip(here.calls, slopes, *there, strict=True):
        # The variance goes as e^{2dt}, and the two places are 2t apart.
        rate = (ahead.variance / behind.variance).log().nan_to_num(0.0, 0.0, 0.0) / (4 * _TIME)
        # Σ ∂L/∂y · y knows no gain, which multiplies y and divides the slope; only the bias is taken off.
        work = call.grouped((grad * (call.output - call.shift)).detach().double()).sum(-1)
        total += float((rate * call.eps / (call.variance + call.eps) * work).sum())
    return total


@dataclass(frozen=True, eq=False)
class _NormCall:
    """One call of a norm: its output, the added bias, eps, the variance of every group, and how groups are laid out."""

    output: Tensor
    shift: Tensor
    eps: float
    variance: Tensor
    grouped: Callable[[Tensor], Tensor]


class _Norms(TorchFunctionMode):
    """Records every norm that is called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_NormCall] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        reader = _READERS.get(function)
        if reader is not None and isinstance(output, Tensor):
            entry = reader(output, *args, **(kwargs or {}))
            if entry is not None:
                self.calls.append(entry)
                return output.clone()  # what follows may work in place
        return output


def _batch(output: Tensor, input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
           weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
           momentum: float = 0.1, eps: float = 1e-5) -> _NormCall | None:  # fmt: skip
    if not training:
        return None
    return _entry(output, input, eps, _channelwise(bias, input), lambda x: x.transpose(0, 1).flatten(1), True)


def _instance(output: Tensor, input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
              weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
              momentum: float = 0.1, eps: float = 1e-5) -> _NormCall | None:  # fmt: skip
    if not use_input_stats:
        return None
    return _entry(output, input, eps, _channelwise(bias, input), lambda x: x.flatten(2).flatten(0, 1), True)


def _group(output: Tensor, input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
           eps: float = 1e-5) -> _NormCall:  # fmt: skip
    def grouped(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * num_groups, -1)

    return _entry(output, input, eps, _channelwise(bias, input), grouped, True)


def _layer(output: Tensor, input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
           bias: Tensor | None = None, eps: float = 1e-5) -> _NormCall:  # fmt: skip
    count = math.prod(normalized_shape)
    return _entry(output, input, eps, bias, lambda x: x.reshape(-1, count), True)


def _root_mean_square(output: Tensor, input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
                      eps: float | None = None) -> _NormCall:  # fmt: skip
    count = math.prod(normalized_shape)
    small = torch.finfo(input.dtype).eps if eps is None else eps
    return _entry(output, input, small, None, lambda x: x.reshape(-1, count), False)


def _entry(
    output: Tensor, input: Tensor, eps: float, shift: Tensor | None, grouped: Callable[[Tensor], Tensor], centre: bool
) -> _NormCall:
    rows = grouped(input.detach().double())
    variance = rows.var(-1, correction=0) if centre else rows.square().mean(-1)
    return _NormCall(output, torch.zeros(()).to(output) if shift is None else shift.detach(), eps, variance, grouped)


def _channelwise(bias: Tensor | None, input: Tensor) -> Tensor | None:
    return None if bias is None else bias.reshape(1, -1, *[1] * (input.ndim - 2))


_READERS: dict[Any, Callable[..., _NormCall | None]] = {
    functional.batch_norm: _batch,
    functional.instance_norm: _instance,
    functional.group_norm: _group,
    functional.layer_norm: _layer,
    functional.rms_norm: _root_mean_square,
}
