"""Recurrent layers of rectifiers: their states scale as their rows do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.rules.recurrent.states import (
    READ,
    initial_state,
    is_packed,
    part_of_run,
    state_at,
    states_of_run,
    weights_by_layer,
)
from neuralmechanics.symmetry.lowering.rules.registry import Operand, number_in, rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value


@rule("rnn_relu")
def rectified(d: Builder, node: fx.Node, x: Value, state: Operand, *settings: Any) -> tuple[Any, Any]:
    """h_t = relu(W x_t + b + V h_{t-1} + c), a layer on top of the other: rows of W, V and the biases go with h.

    One step beyond the first ties the rest: V h scales as h does. Zeros as the initial state scale with anything.
    Packed sequences, with zeros as the initial state, are one sequence of all their rows.
    """
    if not is_packed(node):
        number = number_in(state)
        first = state if number is None else (number or None)
        weights, has_biases, count, dropout, train, bidirectional, batch_first = settings
        return _rectified(d, node, x, first, weights, has_biases, count, dropout, train, bidirectional, batch_first)
    if number_in(settings[0]) != 0:
        raise UnsupportedFormError("packed sequences with an initial state")
    weights, has_biases, count, dropout, train, bidirectional = settings[1:]
    rows = reshape(d, x, (1, *x.shape))
    out, last = _rectified(d, node, rows, None, weights, has_biases, count, dropout, train, bidirectional, True)
    whole, end = (shape_of(v) for v in node.meta["val"])
    return reshape(d, out, whole), d.resized(d.spread_along(last, 1), end, part_of_run(node, 1))


def _rectified(
    d: Builder,
    node: fx.Node,
    x: Value,
    first: Value | float | None,
    weights: Sequence[Any],
    has_biases: bool,
    count: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any]:
    time = 1 if batch_first else 0
    directions = 2 if bidirectional else 1
    random = dropout > 0 and train and count > 1
    layers = weights_by_layer(weights, has_biases)
    last = []
    for depth in range(count):
        if depth and dropout > 0 and train:
            x = d.noise(x, IDENTITY)  # the states of the next layer are those of a run
        x = d.spread_along(x, time)
        sides = []
        for side in range(directions):
            place = depth * directions + side
            given = first if first is None or isinstance(first, float) else initial_state(d, first, place, time)
            h = _unrolled(d, x, given, layers[place], time, None if random else states_of_run(node, depth, side))
            sides.append(h)
            last.append(state_at(d, h, time, 0 if side else h.shape[time] - 1))
        x = sides[0] if directions == 1 else d.cat(sides, 2)
    return x, last[0] if len(last) == 1 else d.cat(last, 0)


def _unrolled(
    d: Builder, x: Value, first: Value | float | None, weights: Sequence[Any], time: int, states: Function | None
) -> Value:
    """The states of one layer in one direction, all of them at once; ``first`` may be the number that fills it."""
    w, v, *biases = weights
    v = d.view(v, Permute((0, 1)))  # read at every step
    total = d.contract(x, w, READ)
    for bias in biases:
        total = d.add(total, bias)
    start = total
    if isinstance(first, float):
        start = d.add(total, d.scaled(d.reduce(v, (1,), False, False), first))
    elif first is not None:
        start = d.add(total, d.contract(first, v, READ))
    h = d.homogeneous(start, True, states)
    if x.shape[time] == 1:
        return h
    return d.homogeneous(d.add(total, d.contract(h, v, READ)), True, states)
