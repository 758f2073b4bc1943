"""Convolutions: sums of products over windows of positions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Sizes, rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction, Window
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


def listed(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _bias(d: Builder, out: Value, bias: Value | None, spatial: int) -> Value:
    return out if bias is None else d.add(out, reshape(d, bias, (*bias.shape, *((1,) * spatial))))


@dataclass(frozen=True)
class _Convolution:
    """The numbers of a convolution: one for all spatial dimensions, or one for each."""

    stride: Sizes
    padding: Sizes | str
    dilation: Sizes
    groups: int
    transposed: bool = False
    output_padding: Sizes = 0

    def padded(self) -> bool:
        """Whether zeros are put around the input."""
        if isinstance(self.padding, str):
            return self.padding != "valid"
        return any(listed(self.padding, 1))

    def pointwise(self, axis: int, spatial: int, size: int) -> bool:
        """Whether each position along a spatial axis meets one number of the kernel and nothing of its neighbours."""
        stride, after = (listed(n, spatial)[axis] for n in (self.stride, self.output_padding))
        # By its name, "same" or "valid", a kernel of one entry needs no padding.
        padded = isinstance(self.padding, str) or listed(self.padding, spatial)[axis] == 0
        return size == 1 and stride == 1 and after == 0 and padded

    def window(self, axis: int, spatial: int, size: int, length: int, letters: tuple[str, str, str]) -> Window:
        """What the output sees along one spatial axis: kernel of ``size``, output of ``length``."""
        stride, dilation, after = (listed(n, spatial)[axis] for n in (self.stride, self.dilation, self.output_padding))
        padding: Hashable
        if self.padding == "same":
            # An odd number of zeros has no half: torch puts one more behind, which no symmetric padding is equal to.
            padding = ("same", dilation * (size - 1)) if dilation * (size - 1) % 2 else dilation * (size - 1) // 2
        else:
            padding = 0 if self.padding == "valid" else listed(self.padding, spatial)[axis]
        geometry = (self.transposed, stride, padding, dilation, after)
        return Window(*letters, not self.padded() and not self.transposed, geometry, length)


def convolved(d: Builder, node: fx.Node, x: Value, weight: Value, bias: Value | None, how: _Convolution) -> Value:
    """Output channel o of group g: Σ over input channels of the group and kernel positions."""
    shape, groups, transposed = meta_shape(node), how.groups, how.transposed
    spatial = len(weight.shape) - 2
    batched = len(x.shape) == spatial + 2
    if not batched:
        x = reshape(d, x, (1, *x.shape))
    full = shape if batched else (1, *shape)
    places, kernel, outs = "stu"[:spatial], "xyz"[:spatial], "pqr"[:spatial]
    alone = [how.pointwise(axis, spatial, weight.shape[2 + axis]) for axis in range(spatial)]
    if groups > 1 and not how.padded():
        alone = [False] * spatial  # a bias in front is answered group by group, which is read off kernels with windows
    outs = "".join(place if free else out for place, out, free in zip(places, outs, alone, strict=True))
    windows = tuple(
        how.window(axis, spatial, weight.shape[2 + axis], full[2 + axis], letters)
        for axis, letters in enumerate(zip(places, kernel, outs, strict=True))
        if not alone[axis]
    )
    if groups == 1:
        kernel = "".join(tap for tap, free in zip(kernel, alone, strict=True) if not free)
        weight = _without(d, weight, [2 + axis for axis in range(spatial) if alone[axis]])
        # Weights of transposed convolutions have their input channels first.
        channels = "ic" if transposed else "ci"
        out = d.contract(x, weight, Contraction("bi" + places, channels + kernel, "bc" + outs, windows))
    else:
        x = reshape(d, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        weight = reshape(d, weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
        channels = "gic" if transposed else "gci"
        # A tap that no window has is summed alone, and the sum is the tap.
        out = d.contract(x, weight, Contraction("bgi" + places, channels + kernel, "bgc" + outs, windows))
        out = reshape(d, out, full)
    out = _bias(d, out, bias, spatial)
    return out if batched else reshape(d, out, shape)


def _without(d: Builder, weight: Value, axes: list[int]) -> Value:
    """The weight without axes of one entry."""
    kept = tuple(n for axis, n in enumerate(weight.shape) if axis not in axes)
    return reshape(d, weight, kept) if axes else weight


@rule("conv1d", "conv2d", "conv3d")
def conv(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    return convolved(d, node, x, weight, bias, _Convolution(stride, padding, dilation, groups))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transposed(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Value:
    return convolved(d, node, x, weight, bias, _Convolution(stride, padding, dilation, groups, True, output_padding))


@rule("convolution")
def convolution(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Value:
    how = _Convolution(stride, padding, dilation, groups, transposed, output_padding)
    return convolved(d, node, x, weight, bias, how)
