"""Rotary embedding in a graph: x·cos + rotate_half(x)·sin, where cos and sin are the same for both halves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx

from neuralmechanics.symmetry.capture import is_node, operation_name

__all__ = ["Rotary", "rotary_operations"]


@dataclass(frozen=True)
class Rotary:
    """Numbers of the graph's nodes: the inner ones (cat, inner with cosine and sine), and the sums that end it.

    A sum is given with the place (0 or 1) of its operand x·cos.
    """

    inner: frozenset[int] = frozenset()
    sums: dict[int, int] = field(default_factory=dict)


def rotary_operations(graph: fx.Graph) -> Rotary:
    """Finds every complete pattern; anything that is not exactly it is no rotation.

    In the pattern the channels i and i + D/2 of x form a complex number that is multiplied by e^{iφ}: one frequency, so
    cos and sin are built by concatenating one tensor with itself.
    """
    numbers = {node: k for k, node in enumerate(graph.nodes)}
    inner: set[int] = set()
    sums: dict[int, int] = {}
    node: Any
    for node in graph.nodes:
        if node.op != "call_function" or operation_name(node) != "aten.add" or len(node.args) < 2:
            continue
        left, right = node.args[:2]
        for position, (first, second) in enumerate(((left, right), (right, left))):
            if _is_product(first) and _is_product(second) and _complete(first, second):
                inner |= {numbers[first], numbers[second]}
                inner |= {numbers[n] for n in second.args[:2] if _turned(n) is not None}
                sums[numbers[node]] = position
                break
    return Rotary(frozenset(inner), sums)


def _is_product(node: Any) -> bool:
    return is_node(node) and node.op == "call_function" and operation_name(node) == "aten.mul"


def _complete(cosine: Any, sine: Any) -> bool:
    for x, cos in (cosine.args[:2], cosine.args[1::-1]):
        for turned, sin in (sine.args[:2], sine.args[1::-1]):
            if _turned(turned) is not None and _turned(turned) is x and _doubled(cos) and _doubled(sin):
                return True
    return False


def _turned(node: Any) -> Any:
    """x where the node is cat(-x[half:], x[:half]) along the last dimension."""
    if not is_node(node) or node.op != "call_function" or operation_name(node) != "aten.cat":
        return None
    parts = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else 0
    rank = len(node.meta["val"].shape)
    if len(parts) != 2 or dim % rank != rank - 1 or operation_name(parts[0]) != "aten.neg":
        return None
    upper, lower = _half(parts[0].args[0]), _half(parts[1])
    if upper is None or lower is None or upper[0] is not lower[0]:
        return None
    return upper[0] if (upper[1], lower[1]) == (1, 0) else None


def _half(node: Any) -> tuple[Any, int] | None:
    """(x, 0) for the first half of x along its last dimension, (x, 1) for the second."""
    if not is_node(node) or node.op != "call_function":
        return None
    if operation_name(node) == "aten.slice":
        x = node.args[0]
        size = x.meta["val"].shape
        dim = node.args[1] if len(node.args) > 1 else 0
        start = node.args[2] if len(node.args) > 2 and node.args[2] is not None else 0
        end = node.args[3] if len(node.args) > 3 and node.args[3] is not None else size[-1]
        if dim % len(size) != len(size) - 1 or (len(node.args) > 4 and node.args[4] != 1):
            return None
        span = range(size[-1])[start:end]
        return _which(x, span, size[-1])
    if getattr(node.target, "__name__", "") == "getitem" and is_node(node.args[0]):
        whole = node.args[0]
        if operation_name(whole) in ("aten.chunk", "aten.split"):
            x = whole.args[0]
            size = x.meta["val"].shape
            dim = whole.args[2] if len(whole.args) > 2 else whole.kwargs.get("dim", 0)
            pieces = whole.meta["val"]
            if dim % len(size) == len(size) - 1 and len(pieces) == 2 and pieces[0].shape[-1] * 2 == size[-1]:
                return x, int(node.args[1])
    return None


def _which(x: Any, span: range, n: int) -> tuple[Any, int] | None:
    if n % 2 == 0 and span == range(n // 2):
        return x, 0
    if n % 2 == 0 and span == range(n // 2, n):
        return x, 1
    return None


_CARRIED = frozenset(
    f"aten.{name}"
    for name in (
        "cos",
        "sin",
        "mul",
        "to",
        "_to_copy",
        "unsqueeze",
        "expand",
        "slice",
        "index",
        "view",
        "reshape",
        "clone",
    )
)


def _doubled(node: Any) -> bool:
    """Whether the last dimension holds the same values twice: cat(f, f), through operations that keep that."""
    while is_node(node) and node.op == "call_function":
        name = operation_name(node)
        shape = getattr(node.meta.get("val"), "shape", ())
        if name == "aten.cat":
            parts = node.args[0]
            dim = node.args[1] if len(node.args) > 1 else 0
            return len(parts) == 2 and parts[0] is parts[1] and dim % len(shape) == len(shape) - 1
        if name not in _CARRIED or (name == "aten.mul" and is_node(node.args[1])):
            return False
        source = node.args[0]
        if getattr(source.meta.get("val"), "shape", (0,))[-1:] != shape[-1:]:
            return False
        node = source
    return False
