"""Fourier sums: a fixed matrix along a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


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
    # Real numbers are halved first or made last: in between the entries are complex.
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
    letters, count, real = ascii_letters[:rank], x.shape[dim], name in ("irfft", "hfft")
    n = length if real else read
    matrix = function_of(name, lambda: function(torch.eye(count, dtype=torch.float64), n, 0, norm), settings=(n, norm))
    to_real = function_of(name, lambda x, _: function(x, n, dim, norm), settings=(n, dim, norm)) if real else None
    how = Contraction(letters, "z" + letters[dim], letters.replace(letters[dim], "z"))
    return d.contract(x, d.constant((length, count), function=matrix), how, to_real)
