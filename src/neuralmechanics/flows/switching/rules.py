"""How each operation with a kink is written once its comparisons are held: relu(z) = s z, s the side of z."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.switching.held_choices import HeldChoices, Rule
from neuralmechanics.functional.dispatching import DispatchMode

__all__ = ["RULES", "kinks_without_rule"]


def _into(x: Tensor, value: Tensor, inplace: bool) -> Tensor:
    return x.copy_(value) if inplace else value


def _relu(mode: HeldChoices, x: Tensor, inplace: bool = False) -> Tensor:
    return _into(x, x * mode.side(x), inplace)


def _relu_in_place(mode: HeldChoices, x: Tensor) -> Tensor:
    return _relu(mode, x, True)


def _leaky_relu(mode: HeldChoices, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return _into(x, x * (negative_slope + (1 - negative_slope) * mode.side(x)), inplace)


def _prelu(mode: HeldChoices, x: Tensor, weight: Tensor) -> Tensor:
    slope = weight.reshape(-1, *[1] * (x.ndim - 2)) if weight.numel() > 1 and x.ndim > 1 else weight
    return x * (slope + (1 - slope) * mode.side(x))


def _threshold(mode: HeldChoices, x: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    side = mode.side(x - threshold)
    return _into(x, side * x + (1 - side) * value, inplace)


def _abs(mode: HeldChoices, x: Tensor) -> Any:
    return x * (2 * mode.side(x) - 1) if x.is_floating_point() else NotImplemented


def _clamp(mode: HeldChoices, x: Tensor, min: Any = None, max: Any = None) -> Any:
    if not x.is_floating_point():
        return NotImplemented
    if min is not None:
        x = min + (x - min) * mode.side(x - min)
    return x if max is None else max + (x - max) * (1 - mode.side(x - max))


def _clamp_max(mode: HeldChoices, x: Tensor, max: Any) -> Any:
    return _clamp(mode, x, None, max)


def _hardtanh(
    mode: HeldChoices, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return _into(x, _clamp(mode, x, min_val, max_val), inplace)


def _relu6(mode: HeldChoices, x: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(mode, x, 0.0, 6.0, inplace)


def _hardsigmoid(mode: HeldChoices, x: Tensor, inplace: bool = False) -> Tensor:
    return _into(x, _clamp(mode, x + 3, 0.0, 6.0) / 6, inplace)


def _hardswish(mode: HeldChoices, x: Tensor, inplace: bool = False) -> Tensor:
    return _into(x, x * _clamp(mode, x + 3, 0.0, 6.0) / 6, inplace)


def _softshrink(mode: HeldChoices, x: Tensor, lambd: float = 0.5) -> Tensor:
    return x - torch.as_tensor(_clamp(mode, x, -lambd, lambd))


def _maximum(mode: HeldChoices, a: Tensor, b: Tensor) -> Any:
    return b + (a - b) * mode.side(a - b) if a.is_floating_point() else NotImplemented


def _minimum(mode: HeldChoices, a: Tensor, b: Tensor) -> Any:
    return a - (a - b) * mode.side(a - b) if a.is_floating_point() else NotImplemented


def _comparison(swapped: bool) -> Rule:
    def rule(mode: HeldChoices, a: Any, b: Any) -> Any:
        if not any(isinstance(value, Tensor) and value.is_floating_point() for value in (a, b)):
            return NotImplemented
        # Its value is no number to differentiate, but what is chosen by it jumps with it.
        score = torch.as_tensor(b - a if swapped else a - b)
        return mode.side(score) > 0.5

    return rule


def _l1_loss(
    mode: HeldChoices, input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", weight: Any = None,
) -> Any:  # fmt: skip
    if size_average is not None or reduce is not None or weight is not None:
        return NotImplemented
    distance: Tensor = _abs(mode, input - target)
    return distance if reduction == "none" else distance.mean() if reduction == "mean" else distance.sum()


def _extreme(mode: HeldChoices, x: Tensor, dim: Any, keepdim: bool, sign: int) -> tuple[Tensor, Tensor]:
    """The largest of sign·x over ``dim`` and its position among them."""
    dims = sorted({d % x.ndim for d in ([dim] if isinstance(dim, int) else dim or range(x.ndim))})
    kept = [d for d in range(x.ndim) if d not in dims]
    rows = x.permute(*kept, *dims).reshape(*[x.shape[d] for d in kept], -1)
    values, positions = mode.winner(sign * rows)
    shape = [1 if d in dims else x.shape[d] for d in range(x.ndim)] if keepdim else [x.shape[d] for d in kept]
    return sign * values.reshape(shape), positions.reshape(shape)


def _amax(sign: int) -> Rule:
    def rule(mode: HeldChoices, x: Tensor, dim: Any = (), keepdim: bool = False) -> Any:
        return _extreme(mode, x, dim, keepdim, sign)[0] if x.is_floating_point() else NotImplemented

    return rule


def _max(sign: int, named: Callable[[tuple[Tensor, Tensor]], Any], both: Rule) -> Rule:
    def rule(mode: HeldChoices, x: Tensor, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
        other = dim if isinstance(dim, Tensor) else other
        if other is not None:
            return both(mode, x, other)
        if not x.is_floating_point():
            return NotImplemented
        values = _extreme(mode, x, dim, keepdim, sign)
        return values[0] if dim is None else named(values)

    return rule


def _max_pool(dimensions: int) -> Rule:
    def rule(
        mode: HeldChoices, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        if return_indices:
            return NotImplemented
        kernel = _each(kernel_size, dimensions)
        steps = kernel if stride is None or stride == [] else _each(stride, dimensions)
        taps = zip(kernel, steps, _each(padding, dimensions), _each(dilation, dimensions), strict=True)
        spatial = list(input.shape[-dimensions:])
        grids = [_taps(n, *tap, ceil_mode) for n, tap in zip(spatial, taps, strict=True)]
        position, inside = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
        for n, (index, valid) in zip(spatial, grids, strict=True):
            # Rows are windows, columns the taps in each: both grow by the product over the dimensions.
            position = (position[:, None, :, None] * n + index[None, :, None, :]).flatten(2).flatten(0, 1)
            inside = (inside[:, None, :, None] & valid[None, :, None, :]).flatten(2).flatten(0, 1)
        # What lies outside never wins.
        candidates = input.flatten(-dimensions)[..., position].masked_fill(~inside, -math.inf)
        return mode.winner(candidates)[0].reshape(*input.shape[:-dimensions], *[len(index) for index, _ in grids])

    return rule


def _each(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * count if len(values) == 1 else values


def _taps(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """Position of every tap of every window along one dimension, and whether it lies inside."""
    reach = n + 2 * padding - dilation * (kernel - 1) - 1
    count = (math.ceil if ceil_mode else math.floor)(reach / stride) + 1
    # torch drops a window that would begin in the padding behind the data.
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    position = torch.arange(count)[:, None] * stride - padding + dilation * torch.arange(kernel)[None, :]
    # Taps outside are read at the nearest place, and masked by who reads them.
    inside = (position >= 0) & (position < n)
    return position.clamp(0, n - 1), inside


_TENSOR = torch.Tensor
_MAXIMA = _max(1, torch.return_types.max, _maximum)
_MINIMA = _max(-1, torch.return_types.min, _minimum)

RULES: dict[Any, Rule] = {
    **dict.fromkeys((functional.relu, torch.relu, _TENSOR.relu), _relu),
    **dict.fromkeys((torch.relu_, _TENSOR.relu_), _relu_in_place),
    functional.leaky_relu: _leaky_relu,
    **dict.fromkeys((functional.prelu, torch.prelu), _prelu),
    **dict.fromkeys((functional.threshold, torch.threshold), _threshold),
    **dict.fromkeys((torch.abs, _TENSOR.abs, torch.absolute, _TENSOR.absolute, _TENSOR.__abs__), _abs),
    **dict.fromkeys((torch.clamp, _TENSOR.clamp, torch.clip, _TENSOR.clip, torch.clamp_min, _TENSOR.clamp_min), _clamp),
    **dict.fromkeys((torch.clamp_max, _TENSOR.clamp_max), _clamp_max),
    functional.hardtanh: _hardtanh,
    functional.relu6: _relu6,
    functional.hardsigmoid: _hardsigmoid,
    functional.hardswish: _hardswish,
    functional.softshrink: _softshrink,
    functional.l1_loss: _l1_loss,
    **dict.fromkeys((torch.maximum, _TENSOR.maximum, torch.fmax, _TENSOR.fmax), _maximum),
    **dict.fromkeys((torch.minimum, _TENSOR.minimum, torch.fmin, _TENSOR.fmin), _minimum),
    **dict.fromkeys((torch.max, _TENSOR.max), _MAXIMA),
    **dict.fromkeys((torch.min, _TENSOR.min), _MINIMA),
    **dict.fromkeys((torch.amax, _TENSOR.amax), _amax(1)),
    **dict.fromkeys((torch.amin, _TENSOR.amin), _amax(-1)),
    **dict.fromkeys(
        (torch.gt, _TENSOR.gt, _TENSOR.__gt__, torch.ge, _TENSOR.ge, _TENSOR.__ge__), _comparison(swapped=False)
    ),
    **dict.fromkeys(
        (torch.lt, _TENSOR.lt, _TENSOR.__lt__, torch.le, _TENSOR.le, _TENSOR.__le__), _comparison(swapped=True)
    ),
    **dict.fromkeys((functional.max_pool1d, torch.max_pool1d), _max_pool(1)),
    **dict.fromkeys((functional.max_pool2d, torch.max_pool2d), _max_pool(2)),
    **dict.fromkeys((functional.max_pool3d, torch.max_pool3d), _max_pool(3)),
}

# By their names below autograd, where fused functions and scripted modules end up as well.
_KINKED = {
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "_prelu_kernel", "rrelu_with_noise", "threshold", "threshold_"),
    *("abs", "clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "hardtanh", "hardtanh_"),
    *("hardsigmoid", "hardswish", "hardshrink", "softshrink", "gt", "lt", "ge", "le"),
    *("maximum", "minimum", "fmax", "fmin", "amax", "amin", "max", "min"),
    *("max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool2d", "adaptive_max_pool3d"),
}


class _Seen(DispatchMode):
    """Names of kinked operations that reach the kernels while differentiable numbers pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.quiet = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not self.quiet and name in _KINKED and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def kinks_without_rule(loss: Loss, params: Mapping[str, Tensor]) -> set[str]:
    """Operations with a kink that the loss runs in a way that no rule holds, such as inside a fused function."""
    seen = _Seen()

    def silently(rule: Rule) -> Rule:
        # What a rule itself computes is no kink of the loss.
        def wrapped(mode: HeldChoices, *args: Any, **kwargs: Any) -> Any:
            seen.quiet += 1
            try:
                return rule(mode, *args, **kwargs)
            finally:
                seen.quiet -= 1

        return wrapped

    # Functions with a rule are caught by their names; what then still reaches the kernels has none.
    quiet_rules = {func: silently(rule) for func, rule in RULES.items()}
    with torch.no_grad(), seen, HeldChoices(quiet_rules):
        loss(dict(params))
    return seen.names
