"""Recurrent layers of gates or hyperbolic tangents, written out: two steps of each layer tell what ties its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, take
from neuralmechanics.symmetry.lowering.rules.recurrent.states import (
    READ,
    flat_values,
    initial_state,
    is_packed,
    leaves,
    part_of_run,
    state_at,
    states_of_run,
    weights_by_layer,
)
from neuralmechanics.symmetry.lowering.rules.recurrent.steps import step
from neuralmechanics.symmetry.lowering.rules.registry import number_in, rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value

_OUTER = "abcd"


@rule("lstm", "rnn_tanh")
def gates(d: Builder, node: fx.Node, *operands: Any) -> Any:
    """Sigmoids and hyperbolic tangents of W x + b + V h + c."""
    return _gated(d, node, operands, 0)


@rule("gru")
def gru(d: Builder, node: fx.Node, *operands: Any) -> Any:
    """The same, with the two sums of the candidate state apart."""
    return _gated(d, node, operands, 3)


def _gated(d: Builder, node: fx.Node, operands: Sequence[Any], separate: int) -> Any:
    """Layers of gates, one on the other: what leaves a layer does not move, and is what the next one reads.

    ``separate``: one part in so many of a layer's rows has its two sums apart; 0 for none.
    """
    packed = is_packed(node)
    x, state, weights, has_biases, count, dropout, train, bidirectional = [
        v for k, v in enumerate(operands) if not (packed and k == 1)
    ][:8]
    initial = leaves(state)
    time = 1 if len(operands) > 8 and operands[8] else 0
    steps = x.shape[time] if len(x.shape) > 2 else 2
    # A single step from a state of zeros: V meets nothing else.
    zeros = steps == 1 and all(number_in(n) == 0 for n in initial)
    sides = 2 if bidirectional else 1
    projected = len(weights) != count * sides * (4 if has_biases else 2)
    if not packed and not zeros:
        return _written_out(d, node, x, initial, weights, has_biases, count, dropout if train else 0.0, sides, time)
    if projected:
        raise UnsupportedFormError("projections of the state of a packed sequence, or of a single step")
    layers = weights_by_layer(weights, has_biases)
    for depth in range(count):
        for weight in layers[depth * sides : (depth + 1) * sides]:
            width = weight[1].shape[1]
            rows = weight[0].shape[0]
            hidden = d.constant((*x.shape[:-1], width))
            _gates(d, x, hidden, weight, rows // separate if separate else 0, zeros)
        x = d.constant((*x.shape[:-1], sides * width))
    d.fix(*flat_values(state))
    return _constants(d, node)


def _gates(d: Builder, x: Value, hidden: Value, weights: Sequence[Any], separate: int = 0, zeros: bool = False) -> None:
    """W x + b + V h + c into gates that admit no change; a GRU's last third keeps the two sums ``separate``.

    ``zeros``: h is zero, whatever V is.
    """
    w, v, *biases = weights
    letters = _OUTER[: len(x.shape) - 1]
    read = Contraction(letters + "z", "yz", letters + "y")
    first = d.contract(x, w, read)
    if biases:
        first = d.add(first, biases[0])
    if zeros:
        # V is read, so that it is no unused parameter, and nothing depends on it.
        d.fix(d.scaled(v, 0.0))
        second = expand(d, biases[1], first.shape) if biases else None
    else:
        second = d.contract(hidden, v, read)
        second = d.add(second, biases[1]) if biases else second
    parts = [first] if second is None else [first, second]
    if zeros and not separate and w.shape[0] == 4 * v.shape[1]:  # a forget gate that has nothing to forget
        width = v.shape[1]
        rows = [k for k in range(4 * width) if not width <= k < 2 * width]
        d.fix(*(d.scaled(take(d, part, len(letters), range(width, 2 * width)), 0.0) for part in parts))
        parts = [take(d, part, len(letters), rows) for part in parts]
    joined, last = w.shape[0] - separate, len(letters)
    if separate:
        d.fix(*(take(d, part, last, range(joined, w.shape[0])) for part in parts))
        parts = [take(d, part, last, range(joined)) for part in parts]
    d.fix(parts[0] if len(parts) == 1 else d.add(parts[0], parts[1]))


def _constants(d: Builder, node: fx.Node) -> Any:
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(d.constant(shape_of(v), function=outcome(node, k)) for k, v in enumerate(value))
    return d.constant(shape_of(value), function=outcome(node))


def _written_out(
    d: Builder,
    node: fx.Node,
    x: Value,
    initial: Sequence[Any],
    weights: Sequence[Any],
    has_biases: bool,
    count: int,
    dropout: float,
    sides: int,
    time: int,
) -> Any:
    """Two steps of each layer: from the initial state, and from a state that a step has made; the others are alike."""
    kind = operation_name(node).removeprefix("aten.")
    size = len(weights) // (count * sides)
    layers = [weights[k : k + size] for k in range(0, len(weights), size)]
    ends: list[list[Value]] = [[] for _ in initial]
    for depth in range(count):
        if depth and dropout:
            x = d.noise(x, IDENTITY)
        x = d.spread_along(x, time)
        outs = []
        for side in range(sides):
            place = depth * sides + side
            given = [_given(d, v, place, time) for v in initial]
            known = None if dropout and count > 1 else states_of_run(node, depth, side)
            state = _steps(d, x, given, layers[place], has_biases, time, known, kind)
            outs.append(state[0])
            for end, part in zip(ends, state, strict=True):
                end.append(state_at(d, part, time, 0 if side else x.shape[time] - 1))
        x = outs[0] if sides == 1 else d.cat(outs, 2)
    outs = [x, *(end[0] if len(end) == 1 else d.cat(end, 0) for end in ends)]
    told = 0 if dropout and count > 1 else 2  # what is left to be told from a run
    return (
        *outs[:told],
        *(d.nonlinear(v, function=part_of_run(node, k), parity=-1) for k, v in enumerate(outs) if k >= told),
    )


def _given(d: Builder, state: Any, place: int, time: int) -> Value | None:
    """A layer's part of the initial state; None for zeros."""
    number = number_in(state)
    if number is None:
        return initial_state(d, state, place, time)
    return d.constant(initial_state(d, state, place, time).shape) if number else None


def _steps(
    d: Builder,
    x: Value,
    given: Sequence[Value | None],
    weights: Sequence[Any],
    has_biases: bool,
    time: int,
    known: Function | None,
    kind: str,
) -> list[Value]:
    """The state after a step, all times at once, in the order in which it is given: h, and the cells of an LSTM."""
    w, v = weights[0], d.view(weights[1], Permute((0, 1)))  # read at every step
    biases = weights[2:4] if has_biases else ()
    projection = None if len(weights) == 2 + len(biases) else weights[-1]
    read = d.contract(x, w, READ)
    read = d.add(read, biases[0]) if biases else read
    state: list[Value | None] = list(given)
    for _ in range(2 if x.shape[time] != 1 else 1):
        h = state[0]
        seen = d.contract(h, v, READ) if h is not None else None
        if biases:
            seen = expand(d, biases[1], read.shape) if seen is None else d.add(seen, biases[1])
        new = step(d, read, seen, state, kind)
        if projection is not None:
            new[0] = d.contract(new[0], projection, READ, None if known is None else _second(known))
        elif known is not None:
            new[0] = d.nonlinear(new[0], function=known, parity=-1)
        state = list(new)
    return [part for part in state if part is not None]


def _second(known: Function) -> Function:
    """The states in the place of a function of two operands."""
    return replace(known, apply=lambda _, __, *tensors: known.apply(_, *tensors))
