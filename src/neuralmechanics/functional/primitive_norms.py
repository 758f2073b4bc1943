"""Normalisations written out in elementary operations, so that derivatives of every order are right.

torch's fused ``layer_norm``, ``batch_norm`` and ``instance_norm`` (2.13) have right second derivatives and silently
wrong third ones, its fused weight norm a wrong second one: see ``torch_faults``. Inside ``PrimitiveNorms`` each of
these calls runs as mean, subtraction and powers. Running statistics are read in evaluation mode and never written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

__all__ = ["PrimitiveNorms"]


def _wide(x: Tensor) -> Tensor:
    """Half precision is too coarse for sums of squares: fused norms take them in single precision, too."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _standardised(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    centred = x - x.mean(tuple(dims), keepdim=True)
    return centred * (centred.square().mean(tuple(dims), keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _per_channel(x: Tensor, parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.reshape(1, -1, *[1] * (x.ndim - 2))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _affine(_standardised(input, range(-len(normalized_shape), 0), eps), weight, bias)


def _rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    # As torch has it: where no eps is given, one rounding of the input's type.
    small = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * (input.square().mean(dims, keepdim=True) + small).rsqrt(), weight, None)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        normed = _standardised(input, [0, *range(2, input.ndim)], eps)
    else:
        mean, variance = (s.reshape(1, -1, *[1] * (input.ndim - 2)) for s in (running_mean, running_var))
        normed = (input - mean) * (variance + eps).rsqrt()
    return _affine(normed, _per_channel(input, weight), _per_channel(input, bias))


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    normed = _standardised(input, range(2, input.ndim), eps)
    return _affine(normed, _per_channel(input, weight), _per_channel(input, bias))


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    groups = input.reshape(input.shape[0], num_groups, -1)
    normed = _standardised(groups, [-1], eps).reshape(input.shape)
    return _affine(normed, _per_channel(input, weight), _per_channel(input, bias))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _linear_cross_entropy(*args: Any, options: Any = None, **kwargs: Any) -> Tensor:
    """Without options the logits are formed all at once, which torch differentiates rightly."""
    return F.linear_cross_entropy(*args, **kwargs)


def _aten_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _aten_instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return _instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


# Both spellings: a mode sees the outermost call alone, and either may be that.
_PRIMITIVE: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.batch_norm: _batch_norm,
    torch.batch_norm: _aten_batch_norm,
    F.instance_norm: _instance_norm,
    torch.instance_norm: _aten_instance_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    torch._weight_norm: _weight_norm,
}
if hasattr(F, "linear_cross_entropy"):  # torch 2.13 and later
    _PRIMITIVE[F.linear_cross_entropy] = _linear_cross_entropy


def _copy_of_constant(x: Tensor) -> Tensor:
    return x if x.requires_grad else x.clone()


def _in_range(form: Callable[..., Tensor], func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """The written-out form; half precision and autocast take it in single precision and end in the type of ``func``."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    device = tensors[0].device.type
    if all(_wide(t) is t for t in tensors) and not torch.is_autocast_enabled(device):
        return form(*args, **kwargs)
    # Run for its type alone: under autocast some of these operations end in half precision and some do not. In training
    # mode it writes running statistics, which no derivative is taken of: into copies.
    copied_args, copied_kwargs = pytree.tree_map_only(Tensor, _copy_of_constant, (tuple(args), kwargs))
    with torch.no_grad():
        dtype = func(*copied_args, **copied_kwargs).dtype
    wide_args, wide_kwargs = pytree.tree_map_only(Tensor, _wide, (tuple(args), kwargs))
    with torch.autocast(device, enabled=False):
        return form(*wide_args, **wide_kwargs).to(dtype)


class PrimitiveNorms(TorchFunctionMode):
    """While active, every normalisation of ``torch`` and ``torch.nn.functional`` runs in elementary operations.

    >>> x = torch.randn(2, 3, dtype=torch.float64)
    >>> plain = F.layer_norm(x, [3])
    >>> with PrimitiveNorms():
    ...     written_out = F.layer_norm(x, [3])
    >>> torch.allclose(plain, written_out, rtol=0, atol=1e-15)
    True
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        form, named = _PRIMITIVE.get(func), kwargs or {}
        return func(*args, **named) if form is None else _in_range(form, func, args, named)
