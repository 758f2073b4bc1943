"""Sums of products: matrix products, convolutions, attention weights times values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import conjugate, expand, meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Sizes, rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction, Window
from neuralmechanics.symmetry.program.attributes.function import GROUPS, TRIANGLE, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@rule("linear")
def linear(d: Builder, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """y = x Wᵀ + b: rows of W go with y, columns against x, b with y."""
    outer = _LETTERS[: len(x.shape) - 1]
    out = d.contract(x, weight, Contraction(outer + "z", "yz", outer + "y"))
    return out if bias is None else d.add(out, bias)


def product(d: Builder, x: Value, y: Value) -> Value:
    """The matrix product with broadcast batch dimensions."""
    if len(x.shape) == 1 and len(y.shape) == 1:
        return d.contract(x, y, Contraction("z", "z", ""))
    if len(x.shape) == 1:
        batch = _LETTERS[: len(y.shape) - 2]
        return d.contract(x, y, Contraction("z", batch + "zy", batch + "y"))
    if len(y.shape) == 1:
        batch = _LETTERS[: len(x.shape) - 1]
        return d.contract(x, y, Contraction(batch + "z", "z", batch))
    rank = max(len(x.shape), len(y.shape)) - 2
    left, x = _batch(d, x, y, rank)
    right, y = _batch(d, y, x, rank)
    out = _LETTERS[:rank] if rank else ""
    return d.contract(x, y, Contraction(left + "xz", right + "zy", out + "xy"))


def _batch(d: Builder, x: Value, other: Any, rank: int) -> tuple[str, Any]:
    """Batch letters of x; dimensions of size one that the other operand widens are dropped."""
    batch = len(x.shape) - 2
    kept = []
    for k in range(batch):
        place = rank - batch + k
        theirs = place - (rank - (len(other.shape) - 2))
        wide = other.shape[theirs] if theirs >= 0 else 1
        if x.shape[k] == 1 and wide != 1:
            continue
        kept.append(k)
    letters = "".join(_LETTERS[rank - batch + k] for k in kept)
    if len(kept) == batch:
        return letters, x
    return letters, reshape(d, x, [*(x.shape[k] for k in kept), *x.shape[-2:]])


@rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def matmul(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    return product(d, conjugate(d, node, x) if "vdot" in str(node.target) else x, y)


@rule("addmm", "baddbmm", "addbmm", "addmv")
def addmm(
    d: Builder, node: fx.Node, bias: Value | None, x: Value, y: Value, beta: float = 1, alpha: float = 1
) -> Value:
    """β·bias + α·x y."""
    out = product(d, x, y)
    if operation_name(node).rstrip("_") == "aten.addbmm":
        out = d.reduce(out, (0,), False, False)
    out = d.scaled(out, float(alpha))
    return expand(d, d.add(out, bias, float(beta)), meta_shape(node)) if beta else out


@rule("outer", "ger")
def outer(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    return d.contract(x, y, Contraction("a", "b", "ab"))


@rule("einsum")
def einsum(d: Builder, node: fx.Node, equation: str, operands: Sequence[Any], **__: object) -> Any:
    """Any einsum, two operands at a time, from the left."""
    text = equation.replace(" ", "")
    inputs, _, out = text.partition("->")
    letters = inputs.split(",")
    spare = [c for c in _LETTERS + _LETTERS.upper() if c not in text]
    widest = max((len(x.shape) - len(s.replace("...", "")) for s, x in zip(letters, operands, strict=True)), default=0)
    dots = "".join(spare[:widest])

    def written(term: str, rank: int) -> str:
        return term.replace("...", dots[len(dots) - (rank - len(term.replace("...", ""))) :] if "..." in term else "")

    terms = [written(s, len(x.shape)) for s, x in zip(letters, operands, strict=True)]
    if "->" not in text:
        joined = "".join(terms)
        out = dots + "".join(sorted(c for c in set(joined) - set(dots) if joined.count(c) == 1))
    out = out.replace("...", dots)
    if any(len(set(t)) != len(t) for t in terms):
        raise NotSoughtError("diagonals of a tensor are not followed", hides=True)
    value, held = operands[0], terms[0]
    if len(operands) == 1:
        return d.contract(value, d.constant((), 1.0), Contraction(held, "", out))
    for k, (other, term) in enumerate(zip(operands[1:], terms[1:], strict=True)):
        later = set(out).union(*map(set, terms[k + 2 :]))
        result = out if k == len(operands) - 2 else "".join(c for c in dict.fromkeys(held + term) if c in later)
        value = d.contract(value, other, Contraction(held, term, result))
        held = result
    return value


@rule("bilinear")
def bilinear(d: Builder, node: fx.Node, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    outer_letters = _LETTERS[: len(x.shape) - 1]
    half = d.contract(x, weight, Contraction(outer_letters + "x", "oxy", outer_letters + "oy"))
    out = d.contract(half, y, Contraction(outer_letters + "oy", outer_letters + "y", outer_letters + "o"))
    return out if bias is None else d.add(out, bias)


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

    def window(self, axis: int, spatial: int, size: int, length: int, letters: tuple[str, str, str]) -> Window:
        """What the output sees along one spatial axis: kernel of ``size``, output of ``length``."""
        stride, dilation, after = (listed(n, spatial)[axis] for n in (self.stride, self.dilation, self.output_padding))
        padding: Hashable
        if self.padding == "same":
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
    windows = tuple(
        how.window(axis, spatial, weight.shape[2 + axis], full[2 + axis], letters)
        for axis, letters in enumerate(zip(places, kernel, outs, strict=True))
    )
    if groups == 1:
        channels = "ic" if transposed else "ci"
        out = d.contract(x, weight, Contraction("bi" + places, channels + kernel, "bc" + outs, windows))
    else:
        x = reshape(d, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        weight = reshape(d, weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
        channels = "gic" if transposed else "gci"
        out = d.contract(x, weight, Contraction("bgi" + places, channels + kernel, "bgc" + outs, windows))
        out = reshape(d, out, full)
    out = _bias(d, out, bias, spatial)
    return out if batched else reshape(d, out, shape)


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


@rule("scaled_dot_product_attention")
def attention(
    d: Builder,
    node: fx.Node,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale·q kᵀ + mask) v, head by head; grouped queries: key and value heads serve several query heads."""
    if enable_gqa:
        from neuralmechanics.symmetry.lowering.rules.rearranging.movement import take

        def repeated(x: Any) -> Any:
            times = q.shape[-3] // x.shape[-3]
            return take(d, x, -3, [h for h in range(x.shape[-3]) for _ in range(times)])

        k, v = repeated(k), repeated(v)
    shape = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (x if x.shape[:-2] == shape else expand(d, x, (*shape, *x.shape[-2:])) for x in (q, k, v))
    batch = _LETTERS[: len(q.shape) - 2]
    scores = d.contract(q, k, Contraction(batch + "xz", batch + "yz", batch + "xy"))
    scores = d.scaled(scores, q.shape[-1] ** -0.5 if scale is None else float(scale))
    if mask is not None:
        scores = d.add(scores, _additive(d, node, mask))
    rank = len(scores.shape)
    if is_causal:
        weights = d.softmax(scores, rank - 1, function=_CAUSAL, chosen=(rank - 2, rank - 1))
    else:
        weights = d.softmax(scores, rank - 1)
    if dropout > 0:
        weights = d.noise(weights, function_of("dropout", lambda w: torch.dropout(w, dropout, True), settings=dropout))
    return d.contract(weights, v, Contraction(batch + "xy", batch + "yz", batch + "xz"))


def _causal(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the entries that do not lie behind the diagonal."""
    kept = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return torch.softmax(scores.masked_fill(~kept, -torch.inf), -1)


_CAUSAL = function_of("causal softmax", _causal)


def _additive(d: Builder, node: fx.Node, mask: Value) -> Value:
    """The mask as what is added: zero where a mask of truth values holds, minus infinity elsewhere."""
    given: Any = node.args[3]
    if given.meta["val"].dtype is not torch.bool:
        return mask
    d.fix(mask)
    added = function_of("mask", lambda kept: torch.where(kept, 0.0, -torch.inf).double(), given)
    return d.constant(mask.shape, function=added)


@rule("_grouped_mm")
def grouped(
    d: Builder, node: fx.Node, x: Value, weight: Value, ends: Value | None = None, bias: Value | None = None, *_: object
) -> Value:
    """x[s] W[e(s)] for rows sorted by expert, ``ends`` saying where each expert's rows end."""
    if ends is None:
        return product(d, x, weight)
    if len(x.shape) != 2 or len(weight.shape) != 3 or bias is not None:
        raise UnsupportedFormError("rows of a matrix in groups are understood only with one matrix a group")
    d.fix(ends)
    chosen = d.gather(weight, 0, x.shape[:1], [ends], _groups(x.shape[0], node.args[2]), GROUPS)
    return d.contract(x, chosen, Contraction("az", "azy", "ay"))


rule("grouped_mm_fallback", prefix="transformers.")(grouped)


def _groups(rows: int, ends: Any) -> Function:
    """The group of each row, by where each group ends."""

    def places(ends: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(ends, torch.arange(rows, dtype=ends.dtype, device=ends.device), right=True)

    return function_of(GROUPS, places, ends, settings=rows)


@rule("cumsum")
def accumulated(d: Builder, node: fx.Node, x: Value, dim: int, **__: object) -> Value:
    """A lower-triangular matrix of ones along ``dim``."""
    if not x.shape:
        return x
    rank, n = len(x.shape), x.shape[dim]
    dim %= rank
    letters = _LETTERS[:rank]
    ones = function_of(TRIANGLE, lambda: torch.ones(n, n, dtype=torch.float64).tril(), settings=n)
    triangle = d.constant((n, n), nonnegative=True, function=ones)
    return d.contract(x, triangle, Contraction(letters, "z" + letters[dim], letters.replace(letters[dim], "z")))


@rule("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft")
def transformed(d: Builder, node: fx.Node, x: Value, n: Any = None, dim: int = -1, norm: str | None = None) -> Value:
    """A fixed matrix along one dimension."""
    return _transformed(d, x, _name(node), x.shape[dim] if n is None else n, meta_shape(node)[dim], dim, norm)


@rule("fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2")
def transformed_in_all(
    d: Builder, node: fx.Node, x: Value, s: Any = None, dim: Sequence[int] | None = None, norm: str | None = None
) -> Value:
    """A fixed matrix along each of several dimensions; the last one is the one that is halved."""
    shape, rank, name = meta_shape(node), len(x.shape), _name(node)
    if dim is None:
        count = 2 if name.endswith("2") else len(s) if s is not None else rank
        dim = range(-count, 0)
    dims = [k % rank for k in dim]
    sizes = [None] * len(dims) if s is None else [None if n == -1 else n for n in s]
    last, plain = name[:-1], name[:-1].replace("rfft", "fft")
    steps = [(plain, n, k) for n, k in zip(sizes[:-1], dims[:-1], strict=True)]
    halved = (last, sizes[-1], dims[-1])
    for each, n, k in [halved, *steps] if last == "rfft" else [*steps, halved]:
        x = _transformed(d, x, each, x.shape[k] if n is None else n, shape[k], k, norm)
    return x


def _name(node: fx.Node) -> str:
    return str(node.target).split(".")[1].removeprefix("fft_")


def _transformed(d: Builder, x: Value, name: str, read: int, length: int, dim: int, norm: str | None) -> Value:
    """A Fourier sum over ``read`` entries along ``dim``: data as its matrix, linear is all that symmetries ask.

    A transform to real numbers (of half of a spectrum) is linear over the reals alone, and no matrix.
    """
    rank, dim, function = len(x.shape), dim % len(x.shape), getattr(torch.fft, name)
    letters, count, real = _LETTERS[:rank], x.shape[dim], name in ("irfft", "hfft")
    n = length if real else read
    matrix = function_of(name, lambda: function(torch.eye(count, dtype=torch.float64), n, 0, norm), settings=(n, norm))
    to_real = function_of(name, lambda x, _: function(x, n, dim, norm), settings=(n, dim, norm)) if real else None
    how = Contraction(letters, "z" + letters[dim], letters.replace(letters[dim], "z"))
    return d.contract(x, d.constant((length, count), function=matrix), how, to_real)
