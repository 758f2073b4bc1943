"""A list of operations of torch in which values are numbered, and the function that runs them one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

__all__ = ["Step", "Value", "needed", "replay_of"]

_CONVOLUTION = """
def backward(
    g: Tensor, x: Tensor, w: Tensor, b: Optional[List[int]], stride: List[int], padding: List[int],
    dilation: List[int], transposed: bool, beyond: List[int], groups: int, wanted: List[bool]
) -> List[Tensor]:
    all = torch.ops.aten.convolution_backward(
        g, x, w, b, stride, padding, dilation, transposed, beyond, groups, wanted
    )
    found: List[Tensor] = []
    if wanted[0]:
        found.append(all[0])
    if wanted[1]:
        found.append(all[1])
    if wanted[2]:
        found.append(all[2])
    return found
"""


@dataclass(frozen=True)
class Value:
    """A value of the line, by its number; 0 is the argument."""

    number: int


@dataclass(frozen=True)
class Step:
    operation: OpOverload
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    results: tuple[int, ...]


def _read(step: Step) -> list[int]:
    """The numbers of the values that a step reads."""
    leaves = pytree.tree_leaves((step.arguments, step.options))
    return [leaf.number for leaf in leaves if isinstance(leaf, Value)]


def needed(steps: Sequence[Step], last: int) -> list[Step]:
    """Those on which value number ``last`` depends."""
    wanted, kept = {last}, []
    for step in reversed(steps):
        if wanted & set(step.results):
            kept.append(step)
            wanted |= set(_read(step))
    return kept[::-1]


@cache
def _callable(operation: OpOverload) -> Callable[..., Any]:
    """What runs an operation: torch's tracer has no name for the flags of this one, its compiler has."""
    if operation is not torch.ops.aten.convolution_backward.default:
        return operation
    found: Callable[..., Any] = torch.jit.CompilationUnit(_CONVOLUTION).backward
    return found


def replay_of(steps: Sequence[Step], constants: Mapping[int, Tensor], last: int) -> Callable[[Tensor], Tensor]:
    """x ↦ value number ``last``."""
    used = {
        leaf.number
        for step in steps
        for leaf in pytree.tree_leaves((step.arguments, step.options))
        if isinstance(leaf, Value)
    }
    kept = {number: value.detach() for number, value in constants.items() if number in used | {last}}

    def replay(x: Tensor) -> Tensor:
        values = {0: x, **kept}

        def filled(leaf: Any) -> Any:
            return values[leaf.number] if isinstance(leaf, Value) else leaf

        for step in steps:
            found = _callable(step.operation)(
                *pytree.tree_map(filled, step.arguments), **pytree.tree_map(filled, step.options)
            )
            results: Iterable[Any] = (leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor))
            values.update(zip(step.results, results, strict=True))
        return values[last]

    return replay
