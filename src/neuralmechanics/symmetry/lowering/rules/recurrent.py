"""Recurrent layers as one operation: the two biases of a gate only ever appear as a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import Operand, number_in, rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value, is_value


def _constants(d: Builder, node: fx.Node) -> Any:
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(d.constant(shape_of(v), function=outcome(node, k)) for k, v in enumerate(value))
    return d.constant(shape_of(value), function=outcome(node))


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


_OUTER = "abcd"


def _gated(d: Builder, node: fx.Node, operands: Sequence[Any], separate: int) -> Any:
    """Layers of gates, one on the other: what leaves a layer does not move, and is what the next one reads.

    ``separate``: one part in so many of a layer's rows has its two sums apart; 0 for none.
    """
    packed = _packed(node)
    x, state, weights, has_biases, count, _, _, bidirectional = [
        v for k, v in enumerate(operands) if not (packed and k == 1)
    ][:8]
    initial = _leaves(state)
    steps = x.shape[1 if len(operands) > 8 and operands[8] else 0] if len(x.shape) > 2 else 2
    zeros = steps == 1 and all(number_in(n) == 0 for n in initial)
    sides = 2 if bidirectional else 1
    if len(weights) != count * sides * (4 if has_biases else 2):
        raise UnsupportedFormError("projections of the state")
    layers = _layers(weights, has_biases)
    for depth in range(count):
        for weight in layers[depth * sides : (depth + 1) * sides]:
            width = weight[1].shape[1]
            rows = weight[0].shape[0]
            hidden = d.constant((*x.shape[:-1], width))
            _gates(d, x, hidden, weight, rows // separate if separate else 0, zeros)
        x = d.constant((*x.shape[:-1], sides * width))
    d.fix(*_flat_values(state))
    return _constants(d, node)


def _leaves(value: Any) -> list[Any]:
    return [v for part in value for v in _leaves(part)] if isinstance(value, (list, tuple)) else [value]


def _flat_values(value: Any) -> list[Any]:
    return [v for v in _leaves(value) if is_value(v)]


def _packed(node: fx.Node) -> bool:
    return getattr(node.target, "_overloadname", "") == "data"


@rule("lstm", "rnn_tanh")
def gates(d: Builder, node: fx.Node, *operands: Any) -> Any:
    """Sigmoids and hyperbolic tangents of W x + b + V h + c."""
    return _gated(d, node, operands, 0)


@rule("gru")
def gru(d: Builder, node: fx.Node, *operands: Any) -> Any:
    """The same, with the two sums of the candidate state apart."""
    return _gated(d, node, operands, 3)


@rule("rnn_relu")
def rectified(d: Builder, node: fx.Node, x: Value, state: Operand, *settings: Any) -> tuple[Any, Any]:
    """h_t = relu(W x_t + b + V h_{t-1} + c), a layer on top of the other: rows of W, V and the biases go with h.

    One step beyond the first ties the rest: V h scales as h does. Zeros as the initial state scale with anything.
    Packed sequences, with zeros as the initial state, are one sequence of all their rows.
    """
    if not _packed(node):
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
    return reshape(d, out, whole), d.resized(d.spread_along(last, 1), end, _of_run(node, 1))


def _of_run(node: fx.Node, part: int) -> Function:
    """What the operation gives, in the place of a function of one operand."""
    given = outcome(node, part)
    return replace(given, apply=lambda _, run: given.apply(run))


def _states(node: fx.Node, depth: int, side: int) -> Function:
    """The states of one layer in one direction, by running the layers up to it."""
    packed = _packed(node)
    at = 3 if packed else 2  # where the weights stand
    weights, has_biases, _, dropout, train, bidirectional, *rest = node.args[at:]
    sides = 2 if bidirectional else 1
    kept = list(weights)[: (depth + 1) * sides * (4 if has_biases else 2)]  # type: ignore[arg-type]
    read = list(node.all_input_nodes)

    def apply(_: torch.Tensor, *tensors: torch.Tensor) -> Any:
        values = dict(zip(read, tensors, strict=True))
        state = values[node.args[at - 1]][: (depth + 1) * sides]  # type: ignore[index]
        front = [values[n] for n in node.args[: at - 1]]  # type: ignore[index]
        settings = (has_biases, depth + 1, dropout, train, bidirectional, *rest)
        out = node.target(*front, state, [values[n] for n in kept], *settings)[0]  # type: ignore[operator]
        width = out.shape[-1] // sides
        states = out[..., side * width : (side + 1) * width]
        return states[None] if packed else states

    return Function("rnn_relu", apply, tuple(n.name for n in read), (node.name, depth, side))


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
    layers = _layers(weights, has_biases)
    last = []
    for depth in range(count):
        if depth and dropout > 0 and train:
            x = d.noise(x, IDENTITY)  # the states of the next layer are those of a run
        x = d.spread_along(x, time)
        sides = []
        for side in range(directions):
            place = depth * directions + side
            given = first if first is None or isinstance(first, float) else _state(d, first, place, time)
            h = _unrolled(d, x, given, layers[place], time, None if random else _states(node, depth, side))
            sides.append(h)
            last.append(_moved_in_front(d, h, time, 0 if side else h.shape[time] - 1))
        x = sides[0] if directions == 1 else d.cat(sides, 2)
    return x, last[0] if len(last) == 1 else d.cat(last, 0)


def _unrolled(
    d: Builder, x: Value, first: Value | float | None, weights: Sequence[Any], time: int, states: Function | None
) -> Value:
    """The states of one layer in one direction, all of them at once; ``first`` may be the number that fills it."""
    w, v, *biases = weights
    v = d.view(v, Permute((0, 1)))  # read at every step
    total = d.contract(x, w, _READ)
    for bias in biases:
        total = d.add(total, bias)
    start = total
    if isinstance(first, float):
        start = d.add(total, d.scaled(d.reduce(v, (1,), False, False), first))
    elif first is not None:
        start = d.add(total, d.contract(first, v, _READ))
    h = d.homogeneous(start, True, states)
    if x.shape[time] == 1:
        return h
    return d.homogeneous(d.add(total, d.contract(h, v, _READ)), True, states)


def _state(d: Builder, state: Value, place: int, time: int) -> Value:
    """The initial state [batch, hidden] of one layer, with a dimension for time."""
    one = take(d, state, 0, [place])
    return one if time == 0 else d.view(one, Permute((1, 0, 2)))


def _moved_in_front(d: Builder, h: Value, time: int, at: int) -> Value:
    """The state at one time, with a dimension for layers in front."""
    one = take(d, h, time, [at])
    return one if time == 0 else d.view(one, Permute((1, 0, 2)))


_READ = Contraction("abz", "yz", "aby")


def _layers(weights: Sequence[Any], has_biases: bool) -> list[Sequence[Any]]:
    size = 4 if has_biases else 2
    return [weights[k : k + size] for k in range(0, len(weights), size)]


@rule("lstm_cell")
def lstm_cell(
    d: Builder,
    node: fx.Node,
    x: Value,
    state: Sequence[Any],
    w: Value,
    v: Value,
    b: Value | None = None,
    c: Value | None = None,
) -> Any:
    return _cell(d, node, x, state, [w, v] if b is None else [w, v, b, c], 0)


@rule("gru_cell")
def gru_cell(
    d: Builder,
    node: fx.Node,
    x: Value,
    state: Value,
    w: Value,
    v: Value,
    b: Value | None = None,
    c: Value | None = None,
) -> Any:
    return _cell(d, node, x, [state], [w, v] if b is None else [w, v, b, c], w.shape[0] // 3)


def _cell(d: Builder, node: fx.Node, x: Value, state: Sequence[Any], weights: Sequence[Any], separate: int) -> Any:
    """One step: the hidden state is read by V, and all of the state enters the result."""
    d.fix(*state)
    _gates(d, x, state[0], weights, separate, all(number_in(v) == 0 for v in state))
    return _constants(d, node)


@rule("rnn_tanh_cell", "rnn_relu_cell")
def rnn_cell(
    d: Builder,
    node: fx.Node,
    x: Value,
    state: Operand,
    w: Value,
    v: Value,
    b: Value | None = None,
    c: Value | None = None,
) -> Value:
    """f(W x + b + V h + c), written out."""
    read = Contraction("az", "yz", "ay") if len(x.shape) == 2 else Contraction("z", "yz", "y")
    total = d.contract(x, w, read)
    total = total if b is None else d.add(total, b)
    if number_in(state) != 0:
        total = d.add(total, d.contract(state, v, read))
    total = total if c is None else d.add(total, c)
    if "relu" in str(node.target):
        return d.homogeneous(total, True, function_of("relu", torch.relu))
    return d.nonlinear(total, function=function_of("tanh", torch.tanh))
