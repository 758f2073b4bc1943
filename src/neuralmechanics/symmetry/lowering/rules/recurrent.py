"""Recurrent layers and cells, written out: two steps of each layer tell what ties its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.recurrent_steps import step, tanh
from neuralmechanics.symmetry.lowering.rules.registry import Operand, number_in, rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import RESULT, Function
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
    x, state, weights, has_biases, count, dropout, train, bidirectional = [
        v for k, v in enumerate(operands) if not (packed and k == 1)
    ][:8]
    initial = _leaves(state)
    time = 1 if len(operands) > 8 and operands[8] else 0
    steps = x.shape[time] if len(x.shape) > 2 else 2
    zeros = steps == 1 and all(number_in(n) == 0 for n in initial)
    sides = 2 if bidirectional else 1
    projected = len(weights) != count * sides * (4 if has_biases else 2)
    if not packed and not zeros:
        return _written_out(d, node, x, initial, weights, has_biases, count, dropout if train else 0.0, sides, time)
    if projected:
        raise UnsupportedFormError("projections of the state of a packed sequence, or of a single step")
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
            known = None if dropout and count > 1 else _states(node, depth, side)
            state = _steps(d, x, given, layers[place], has_biases, time, known, kind)
            outs.append(state[0])
            for end, part in zip(ends, state, strict=True):
                end.append(_moved_in_front(d, part, time, 0 if side else x.shape[time] - 1))
        x = outs[0] if sides == 1 else d.cat(outs, 2)
    outs = [x, *(end[0] if len(end) == 1 else d.cat(end, 0) for end in ends)]
    told = 0 if dropout and count > 1 else 2  # what is left to be told from a run
    return (
        *outs[:told],
        *(d.nonlinear(v, function=_of_run(node, k), parity=-1) for k, v in enumerate(outs) if k >= told),
    )


def _given(d: Builder, state: Any, place: int, time: int) -> Value | None:
    """A layer's part of the initial state; None for zeros."""
    number = number_in(state)
    if number is None:
        return _state(d, state, place, time)
    return d.constant(_state(d, state, place, time).shape) if number else None


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
    read = d.contract(x, w, _READ)
    read = d.add(read, biases[0]) if biases else read
    state: list[Value | None] = list(given)
    for _ in range(2 if x.shape[time] != 1 else 1):
        h = state[0]
        seen = d.contract(h, v, _READ) if h is not None else None
        if biases:
            seen = expand(d, biases[1], read.shape) if seen is None else d.add(seen, biases[1])
        new = step(d, read, seen, state, kind)
        if projection is not None:
            new[0] = d.contract(new[0], projection, _READ, None if known is None else _second(known))
        elif known is not None:
            new[0] = d.nonlinear(new[0], function=known, parity=-1)
        state = list(new)
    return [part for part in state if part is not None]


def _second(known: Function) -> Function:
    """The states in the place of a function of two operands."""
    return replace(known, apply=lambda _, __, *tensors: known.apply(_, *tensors))


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
    size = len(weights) // (node.args[at + 2] * sides)  # type: ignore[arg-type,operator]
    kept = list(weights)[: (depth + 1) * sides * size]  # type: ignore[arg-type, index]
    read = list(node.all_input_nodes)

    def apply(_: torch.Tensor, *tensors: torch.Tensor) -> Any:
        values = dict(zip(read, tensors, strict=True))
        given = node.args[at - 1]
        pair = [values[n][: (depth + 1) * sides] for n in _leaves(given)]
        state = pair if isinstance(given, (list, tuple)) else pair[0]
        front = [values[n] for n in node.args[: at - 1]]  # type: ignore[index]
        settings = (has_biases, depth + 1, dropout, train, bidirectional, *rest)
        out = node.target(*front, state, [values[n] for n in kept], *settings)[0]  # type: ignore[operator]
        width = out.shape[-1] // sides
        states = out[..., side * width : (side + 1) * width]
        return states[None] if packed else states

    return Function(RESULT, apply, tuple(n.name for n in read), (node.name, depth, side))


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
    return tuple(_cell(d, x, state, [w, v] if b is None or c is None else [w, v, b, c], "lstm"))


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
    return _cell(d, x, [state], [w, v] if b is None or c is None else [w, v, b, c], "gru")[0]


def _cell(d: Builder, x: Value, state: Sequence[Any], weights: Sequence[Value], kind: str) -> list[Value]:
    """One step, written out."""
    letters = "abcd"[: len(x.shape) - 1]
    how = Contraction(letters + "z", "yz", letters + "y")
    numbers = [number_in(part) for part in state]
    given = [
        part if number is None else d.constant(part.shape) if number else None
        for part, number in zip(state, numbers, strict=True)
    ]
    read = d.contract(x, weights[0], how)
    seen = None if given[0] is None else d.contract(given[0], weights[1], how)
    if len(weights) > 2:
        read = d.add(read, weights[2])
        seen = expand(d, weights[3], read.shape) if seen is None else d.add(seen, weights[3])
    return step(d, read, seen, given, kind)


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
    return tanh(d, total)
