"""Statistics of a normalisation, where more of it than its result is read: mean, inverse deviation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value

_UNREAD = "neuralmechanics_unread"

# Batch norms whose last two results are the running statistics of later, and when they normalise by the batch's own.
_BY_BATCH: dict[str, Callable[[fx.Node], bool]] = {
    "aten._native_batch_norm_legit_functional": lambda node: bool(node.args[5]),
    "aten._batch_norm_with_update_functional": lambda node: True,
}


def unread(d: Builder, node: fx.Node, first: int) -> list[Any]:
    """The results from the one numbered ``first`` on, of which nothing is made."""
    places = [k for k in range(len(node.meta["val"])) if k >= first]
    node.meta[_UNREAD] = frozenset(k for k in places if not statistics_read(node, k))
    return [d.constant(shape_of(node.meta["val"][k]), function=outcome(node, k)) for k in places]


def is_unread(node: fx.Node, part: int) -> bool:
    """Whether a rule found that nothing is made of a result: no demand keeps it as it is, for nobody would see it."""
    return part in node.meta.get(_UNREAD, ())


def statistics_read(node: fx.Node, first: int = 1) -> bool:
    """Whether an operation reads more of a normalisation than its result: the mean, the inverse deviation."""
    return any(reader.op == "call_function" for reader in _readers(node, first))


def _readers(node: fx.Node, first: int) -> list[fx.Node]:
    """What reads the results from the one numbered ``first`` on, or the running statistics that are made of them."""
    found: list[fx.Node] = []
    frontier = [(node, first)]
    while frontier:
        node, first = frontier.pop()
        parts = [user for user in node.users if user.target is operator.getitem and int(str(user.args[1])) >= first]
        for part, reader in [(made, reader) for made in parts for reader in made.users]:
            if _carries_on(reader, part):
                frontier.append((reader, len(reader.meta["val"]) - 2))
            else:
                found.append(reader)
    return found


def _carries_on(reader: fx.Node, part: fx.Node) -> bool:
    """Whether a batch norm makes nothing but later running statistics of those that an earlier one left.

    By the batch's own statistics it normalises: a module that is called twice hands the running ones from call to call.
    """
    by_batch = _BY_BATCH.get(operation_name(reader)) if reader.op == "call_function" else None
    if by_batch is None or not by_batch(reader):
        return False
    return all(part is not other for other in (*reader.args[:3], *reader.args[5:], *reader.kwargs.values()))


def held(d: Builder, node: fx.Node, *found: Any) -> tuple[Any, ...]:
    """Statistics, which no gradient passes: where more than a backward pass reads them, they may not move."""
    if any("backward" not in str(reader.target) for reader in _readers(node, 1)):
        d.fix(*found)
    return found


def statistics(d: Builder, x: Value, dims: Sequence[int], shape: Sequence[int], eps: float) -> tuple[Any, Any]:
    """The mean over ``dims`` and the inverse of the standard deviation, eps added to its square."""
    mean = d.reduce(x, dims, True, True)
    inverse = d.power(d.deviation(x, dims, True, 0.0), -1.0, inverse_of_deviation(eps))
    return reshape(d, mean, shape), reshape(d, inverse, shape)


def inverse_of_deviation(eps: float) -> Function:
    """1/√(σ² + eps): the normalisation itself says that eps breaks its scaling."""
    return function_of("inverse", lambda sigma: (sigma * sigma + eps).rsqrt(), settings=eps)
