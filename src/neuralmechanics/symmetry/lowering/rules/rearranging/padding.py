"""Entries around a tensor: zeros, another number, or its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value


@rule("pad", "constant_pad_nd")
def padded(d: Builder, node: fx.Node, x: Value, pad: Sequence[int], *rest: Any) -> Value:
    """Zeros, another number, or reflected, replicated and wrapped entries around the data."""
    mode = next((r for r in rest if isinstance(r, str)), "constant")
    fill = next((r for r in rest if r is not None and not isinstance(r, str)), 0.0)
    if not isinstance(fill, (int, float)):
        raise UnsupportedFormError("a number that is not known")
    for k in range(0, len(pad), 2):
        dim, (before, after) = len(x.shape) - 1 - k // 2, pad[k : k + 2]
        n = x.shape[dim]
        if mode == "constant" and (before < 0 or after < 0):
            x = take(d, x, dim, range(max(0, -before), n - max(0, -after)))
            before, after = max(0, before), max(0, after)
            n = x.shape[dim]
        if not before and not after:
            continue
        if mode == "constant":
            x = _surrounded(d, x, dim, before, after, float(fill))
        else:
            x = take(d, x, dim, [_source(k, n, mode) for k in range(-before, n + after)])
    return x


def _surrounded(d: Builder, x: Value, dim: int, before: int, after: int, number: float) -> Value:
    """One number around the entries along a dimension: a concatenation with tensors that are filled with it.

    Minus infinity, around what a maximum is taken of, scales and shifts with anything: so it does with its neighbour.
    """
    if number == 0:
        return d.zero_padded(x, dim, before, after)
    if math.isinf(number) and x.shape[dim]:
        inside = (slice(None),) * dim + (slice(before, before + x.shape[dim]),)

        def filled(x: torch.Tensor) -> torch.Tensor:
            out = torch.full_like(x, number)
            out[inside] = x[inside]
            return out

        repeated = take(
            d, x, dim, [_source(k, x.shape[dim], "replicate") for k in range(-before, x.shape[dim] + after)]
        )
        how = (number, dim, before, after)
        return d.masked(repeated, number, repeated.shape, function_of("filled around", filled, settings=how))
    shapes = [(*x.shape[:dim], n, *x.shape[dim + 1 :]) for n in (before, after)]
    first, last = (d.constant(shape, number) for shape in shapes)
    return d.cat([*([first] if before else []), x, *([last] if after else [])], dim)


def _source(k: int, n: int, mode: str) -> int:
    if mode == "circular":
        return k % n
    if mode == "replicate":
        return min(max(k, 0), n - 1)
    # Reflected at the border entry, which is not repeated: 2 1 [0 1 2 3] 2 1.
    k = abs(k)
    return k if k < n else 2 * (n - 1) - k
