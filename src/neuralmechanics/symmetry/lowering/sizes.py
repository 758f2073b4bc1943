"""Shapes of captured values; sizes that only the data decide stand as primes, consistently through the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

__all__ = ["known", "meta_shape", "meta_shape_of", "shape_of", "size_of", "undecided_sizes"]

_FIRST = 169  # prime(169) = 1009: no usual width is a prime of that size, so a stand-in never equals a true size


def size_of(n: Any) -> int:
    """The size ``n``, with each data-dependent symbol (how many entries a mask keeps) replaced by its own prime.

    Whatever is derived from one such size stays consistent with it: 8·u becomes 8·1009.
    """
    value = known(n)
    if value is not None:
        return value
    from sympy import prime  # type: ignore[import-untyped]

    expression = n.node.expr
    numbers = {symbol: prime(_FIRST + int(symbol.name.lstrip("uszf"))) for symbol in expression.free_symbols}
    return int(expression.subs(numbers))


def known(n: Any) -> int | None:
    """``n`` as an integer where the capture decides it; None for sizes and positions that the data decide."""
    if isinstance(n, int):
        return n
    if not isinstance(n, torch.SymInt):
        return None
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    return None if free_unbacked_symbols(n) else int(n)


def undecided_sizes(graph: fx.Graph) -> Callable[[int], bool]:
    """Tells which numbers stand for sizes of a captured graph that the data decide, or for multiples of such sizes."""
    found: set[int] = set()
    for node in graph.nodes:
        value = node.meta.get("val")
        for tensor in value if isinstance(value, (tuple, list)) else (value,):
            sizes = tensor.shape if isinstance(tensor, torch.Tensor) else ()
            found.update(size_of(n) for n in sizes if known(n) is None)
    return lambda size: any(size == n or (n > 1 and size % n == 0) for n in found)


def shape_of(value: Any) -> tuple[int, ...]:
    """Shape of a captured tensor."""
    return tuple(size_of(n) for n in value.shape)


def meta_shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of a node's (only) output."""
    return shape_of(node.meta["val"])


def meta_shape_of(node: fx.Node, index: int) -> tuple[int, ...]:
    """Shape of one of a node's outputs."""
    return shape_of(node.meta["val"][index])
