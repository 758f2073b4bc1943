"""Shapes of captured values; sizes that only the data decide stand as primes, consistently through the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

__all__ = ["demanded_shape", "known", "meta_shape", "meta_shape_of", "shape_of", "size_of", "undecided_sizes"]

_FIRST = 169  # prime(169) = 1009: no usual width is a prime of that size, so a stand-in never equals a true size


def size_of(n: Any) -> int:
    """The size ``n``, with each data-dependent symbol (how many entries a mask keeps) replaced by its own prime.

    Whatever is derived from one such size stays consistent with it: 8·u becomes 8·1009, and where the run demands that
    half of u be whole, u becomes 2·1009. What is left of a number, 16 - u, is no longer than that in the run; as it
    stands it is |16 - 1009|, of which nothing is known but that it is no other size.
    """
    value = known(n)
    if value is not None:
        return value
    from sympy import prime  # type: ignore[import-untyped]

    expression = n.node.expr
    numbers = {
        symbol: prime(_FIRST + int(symbol.name.lstrip("uszf"))) * _divisor(symbol, n)
        for symbol in expression.free_symbols
    }
    return abs(int(expression.subs(numbers)))


def known(n: Any) -> int | None:
    """``n`` as an integer where the capture decides it; None for sizes and positions that the data decide."""
    if isinstance(n, int):
        return n
    if not isinstance(n, torch.SymInt):
        return None
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    return None if free_unbacked_symbols(n) else int(n)


def _divisor(symbol: Any, n: torch.SymInt) -> int:
    """What the run demands a size to be a multiple of, such as 2 in u = 2·⌊u/2⌋."""
    from torch.utils._sympy.functions import FloorDiv, Mod

    found = 1
    for part in (part for demand in _demands(symbol, n) for part in demand.atoms(FloorDiv, Mod)):
        factor, by = part.args[0].coeff(symbol), part.args[1]
        if factor.is_Integer and by.is_Integer:
            found = math.lcm(found, abs(int(by)) // math.gcd(int(factor), int(by)))
    return found


def _demands(symbol: Any, n: torch.SymInt) -> Iterator[Any]:
    """What must hold of sizes that the data decide, or else the model raises in its run."""
    yield from (demand.expr for demand in n.node.shape_env.deferred_runtime_asserts.get(symbol, ()))


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


def demanded_shape(value: Any) -> tuple[int, ...]:
    """Shape of a captured tensor, with sizes that the data decide replaced by what their sums must be.

    So of a tensor that is split into parts as long as the data say and joined again.
    """
    return tuple(total if (total := _total(n)) is not None else size_of(n) for n in value.shape)


def _total(n: Any) -> int | None:
    """The number that the run demands an expression in sizes to be."""
    if known(n) is not None:
        return known(n)
    from sympy import Eq, Integer

    expression = n.node.expr
    demands = (demand for symbol in expression.free_symbols for demand in _demands(symbol, n))
    sides = ((demand.lhs, demand.rhs) for demand in demands if isinstance(demand, Eq))
    return next((int(b) for a, b in sides if isinstance(b, Integer) and (a - expression).expand() == 0), None)


def meta_shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of a node's (only) output."""
    return shape_of(node.meta["val"])


def meta_shape_of(node: fx.Node, index: int) -> tuple[int, ...]:
    """Shape of one of a node's outputs."""
    return shape_of(node.meta["val"][index])
