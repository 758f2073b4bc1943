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

# Batch norms whose last two results are the running statistics of later, and when they normalise by the batch's own.
_BY_BATCH: dict[str, Callable[[fx.Node], bool]] = {
    "aten._native_batch_norm_legit_functional": lambda node: bool(node.args[5]),
    "aten._batch_norm_with_update_functional": lambda node: True,
}


def unread(d: Builder, node: fx.Node, first: int) -> list[Any]:
    """The results from the one numbered ``first`` on, of which nothing is made."""
    return [d.constant(shape_of(v), function=outcome(node, k)) for k, v in enumerate(node.meta["val"]) if k >= first]


def statistics_read(node: fx.Node, first: int = 1) -> bool:
    """Whether an operation reads more of a normalisation than its result: the mean, the inverse deviation."""
    return any(reader.op == "call_function" for reader in _readers(node, first))


def _readers(node: fx.Node, first: int) -> list[fx.Node]:
    """What reads the results from the one numbered ``first`` on."""
    parts = [user for user in node.users if user.target is operator.getitem and int(str(user.args[1])) >= first]
    return [reader for part in parts for reader in part.users if not _carries_on(reader, part)]


def _carries_on(reader: fx.Node, part: fx.Node) -> bool:
    """Whether a batch norm takes the running statistics that an earlier use left, only to leave later ones unread.

    By the batch's own statistics it normalises: a module that is called twice hands the running ones from call to call.
    """
    by_batch = _BY_BATCH.get(operation_name(reader)) if reader.op == "call_function" else None
    if by_batch is None or not by_batch(reader) or all(part is not running for running in reader.args[3:5]):
        return False
    if part in reader.kwargs.values() or part in (*reader.args[:3], *reader.args[5:]):
        return False
    # Of its results the running statistics alone depend on those that it was given: they are the last two.
    return not any(later.op == "call_function" for later in _readers(reader, len(reader.meta["val"]) - 2))


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
