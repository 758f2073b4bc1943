"""What the layers of a recurrent operation share: its weights by layer, its states in time, and what a run gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import take
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import RESULT, Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value, is_value

# [sequence, batch, in] or [batch, sequence, in] times [out, in]: for the product the two are alike.
READ = Contraction("abz", "yz", "aby")


def leaves(value: Any) -> list[Any]:
    """What a nest of lists holds, in order."""
    return [v for part in value for v in leaves(part)] if isinstance(value, (list, tuple)) else [value]


def flat_values(value: Any) -> list[Any]:
    """The values of the program among it, without numbers and None."""
    return [v for v in leaves(value) if is_value(v)]


def is_packed(node: fx.Node) -> bool:
    """Whether the operation takes a packed sequence: its rows in time, with the sizes of the batches beside it."""
    return getattr(node.target, "_overloadname", "") == "data"


def weights_by_layer(weights: Sequence[Any], has_biases: bool) -> list[Sequence[Any]]:
    """W, V and the biases of each layer in each direction."""
    size = 4 if has_biases else 2
    return [weights[k : k + size] for k in range(0, len(weights), size)]


def initial_state(d: Builder, state: Value, place: int, time: int) -> Value:
    """The initial state [batch, hidden] of one layer, with a dimension for time."""
    one = take(d, state, 0, [place])
    return one if time == 0 else d.view(one, Permute((1, 0, 2)))


def state_at(d: Builder, h: Value, time: int, at: int) -> Value:
    """The state at one time, with a dimension for layers in front."""
    one = take(d, h, time, [at])
    return one if time == 0 else d.view(one, Permute((1, 0, 2)))


def states_of_run(node: fx.Node, depth: int, side: int) -> Function:
    """The states of one layer in one direction, by running the layers up to it."""
    packed = is_packed(node)
    at = 3 if packed else 2  # where the weights stand
    weights, has_biases, _, dropout, train, bidirectional, *rest = node.args[at:]
    sides = 2 if bidirectional else 1
    size = len(weights) // (node.args[at + 2] * sides)  # type: ignore[arg-type,operator]
    kept = list(weights)[: (depth + 1) * sides * size]  # type: ignore[arg-type, index]
    read = list(node.all_input_nodes)

    def apply(_: torch.Tensor, *tensors: torch.Tensor) -> Any:
        values = dict(zip(read, tensors, strict=True))
        given = node.args[at - 1]
        pair = [values[n][: (depth + 1) * sides] for n in leaves(given)]
        state = pair if isinstance(given, (list, tuple)) else pair[0]
        front = [values[n] for n in node.args[: at - 1]]  # type: ignore[index]
        settings = (has_biases, depth + 1, dropout, train, bidirectional, *rest)
        out = node.target(*front, state, [values[n] for n in kept], *settings)[0]  # type: ignore[operator]
        width = out.shape[-1] // sides
        states = out[..., side * width : (side + 1) * width]
        return states[None] if packed else states

    return Function(RESULT, apply, tuple(n.name for n in read), (node.name, depth, side))


def part_of_run(node: fx.Node, part: int) -> Function:
    """What the operation gives, in the place of a function of one operand."""
    given = outcome(node, part)
    return replace(given, apply=lambda _, run: given.apply(run))
