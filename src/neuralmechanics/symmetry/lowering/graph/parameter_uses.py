"""How each parameter is read: elementwise, by convolutions in groups, by an einsum, once or more often."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, operation_name
from neuralmechanics.symmetry.lowering.graph.expert_axis import GROUPED, decided_by, routes

__all__ = ["Roles", "roles"]

_VIEWS = frozenset(
    f"aten.{name}"
    for name in [
        "view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "numpy_T",
        "unsqueeze",
        "squeeze",
        "expand",
        "flatten",
        "clone",
        "contiguous",
        "to",
        "slice",
        "select",
        "split",
        "chunk",
        "alias",
        "unflatten",
        "mT",
        "_to_copy",
        "narrow",
        "unbind",
    ]
)
_MATRIX = frozenset(
    f"aten.{name}"
    for name in [
        "linear",
        "matmul",
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "einsum",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "embedding",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "bilinear",
        "mv",
        "scaled_dot_product_attention",
        "index",
        "index_select",
    ]
) | frozenset(GROUPED)


@dataclass(frozen=True)
class Roles:
    """How parameters are read: only elementwise; by a convolution in groups; by an einsum, with joint index sets.

    ``single``: those that one operation reads, once.
    """

    elementwise: frozenset[str]
    groups: dict[str, int]
    contracted: dict[str, list[tuple[int, ...]]]
    single: frozenset[str]


def roles(captured: Captured) -> Roles:
    """Looks at the operations that read each parameter, directly or through views."""
    matrix: set[str] = set()
    groups: dict[str, int] = {}
    contracted: dict[str, list[tuple[int, ...]]] = {}
    deciding = routes(captured.graph)
    for node in captured.graph.nodes:
        name = captured.parameters.get(node.name)
        if name is None:
            continue
        frontier = list(node.users)
        seen = set(frontier)
        while frontier:
            user = frontier.pop()
            operation = operation_name(user)
            if operation in _MATRIX and not _is_bias(user, node) and not _one_a_row(user, deciding):
                matrix.add(name)
                if operation == "aten.einsum" and node in user.args[1]:
                    contracted.setdefault(name, _index_sets(user, node))
                count = _groups(user)
                if count > 1 and len(user.args) > 1 and user.args[1] is node:
                    groups[name] = count
            if operation in _VIEWS or user.target is operator.getitem:
                new = [n for n in user.users if n not in seen]
                seen.update(new)
                frontier += new
    uses: Counter[str] = Counter()
    for node in captured.graph.nodes:
        if node.name in captured.parameters:
            uses[captured.parameters[node.name]] += sum(_occurrences(user, node) for user in node.users)
    read_once = {
        captured.parameters[n.name] for n in captured.graph.nodes if n.name in captured.parameters and _chain(n)
    }
    single = frozenset(name for name, count in uses.items() if count == 1 and name in read_once)
    return Roles(frozenset(captured.shapes) - matrix, groups, contracted, single)


def _chain(node: Any) -> bool:
    """Whether one operation reads the node in the end: views of it have one reader each."""
    while len(node.users) == 1 and operation_name(next(iter(node.users))) in _VIEWS:
        node = next(iter(node.users))
    return len(node.users) == 1


def _occurrences(user: Any, node: Any) -> int:
    """How many times an operation reads a node."""
    seen: list[Any] = []

    def note(read: Any) -> Any:
        seen.append(read)
        return read

    fx.node.map_arg((user.args, user.kwargs), note)
    return sum(read is node for read in seen)


def _index_sets(user: Any, node: Any) -> list[tuple[int, ...]]:
    """Dimensions of an einsum operand that are summed, and those that stay, each with those shared by all (batch)."""
    inputs, _, out = user.args[0].replace(" ", "").partition("->")
    terms = inputs.split(",")
    mine = terms[user.args[1].index(node)]
    others = "".join(t for t, operand in zip(terms, user.args[1], strict=True) if operand is not node)
    if "." in mine or not out:
        return [(d,) for d in range(len(mine.replace("...", "")))]
    batch = [d for d, letter in enumerate(mine) if letter in out and letter in others]
    kept = [d for d, letter in enumerate(mine) if letter in out and letter not in others]
    summed = [d for d, letter in enumerate(mine) if letter not in out]
    return [tuple(sorted([*batch, *dims])) for dims in (kept, summed) if dims] or [tuple(batch)]


def _is_bias(user: Any, node: Any) -> bool:
    return (
        operation_name(user) == "aten.linear"
        and len(user.args) > 2
        and user.args[2] is node
        and user.args[1] is not node
    )


def _one_a_row(user: Any, deciding: frozenset[Any]) -> bool:
    """Whether each row of data gets a row of the parameter, its expert's bias."""
    if operation_name(user) != "aten.index" or len(user.args[0].meta["val"].shape) > 2:
        return False
    return len(user.args[1]) == 1 and decided_by(user.args[1][0]) in deciding


def _groups(user: Any) -> int:
    name = operation_name(user)
    if name in ("aten.conv1d", "aten.conv2d", "aten.conv3d") or name.startswith("aten.conv_transpose"):
        return int(user.args[6]) if len(user.args) > 6 else int(user.kwargs.get("groups", 1))
    return int(user.args[8]) if name == "aten.convolution" else 1
