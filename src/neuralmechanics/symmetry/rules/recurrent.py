"""Recurrent layers as one operation: the two biases of a gate only ever appear as a sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.domain import Contraction
from neuralmechanics.symmetry.rules.registry import number_behind, rule
from neuralmechanics.symmetry.rules.sizes import shape_of


def _constants(d: Any, node: fx.Node) -> Any:
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(d.constant(shape_of(v)) for v in value)
    return d.constant(shape_of(value))


def _gates(d: Any, x: Any, hidden: Any, weights: Sequence[Any], separate: int) -> None:
    """W x + b + V h + c into gates that admit no change; a GRU's last third keeps the two sums ``separate``."""
    w, v, *biases = weights
    d.fix(x, hidden, w, v)
    if not biases:
        return
    first, second = biases
    rows = first.shape[0]
    from neuralmechanics.symmetry.rules.views import take

    if separate:
        joined = rows - separate
        d.fix(take(d, first, 0, range(joined, rows)), take(d, second, 0, range(joined, rows)))
        first, second = take(d, first, 0, range(joined)), take(d, second, 0, range(joined))
    d.fix(d.add(first, second))


@rule("lstm")
def lstm(
    d: Any, node: fx.Node, x: Any, state: Sequence[Any], weights: Sequence[Any], has_biases: bool, *rest: Any
) -> Any:
    for layer in _layers(weights, has_biases):
        _gates(d, x, d.constant(()), layer, 0)
    d.fix(*state)
    return _constants(d, node)


@rule("gru")
def gru(d: Any, node: fx.Node, x: Any, state: Any, weights: Sequence[Any], has_biases: bool, *rest: Any) -> Any:
    for layer in _layers(weights, has_biases):
        _gates(d, x, d.constant(()), layer, layer[0].shape[0] // 3)
    d.fix(state)
    return _constants(d, node)


@rule("rnn_tanh", "rnn_relu")
def rnn(d: Any, node: fx.Node, x: Any, state: Any, weights: Sequence[Any], has_biases: bool, *rest: Any) -> Any:
    for layer in _layers(weights, has_biases):
        _gates(d, x, d.constant(()), layer, 0)
    d.fix(state)
    return _constants(d, node)


def _layers(weights: Sequence[Any], has_biases: bool) -> list[Sequence[Any]]:
    size = 4 if has_biases else 2
    return [weights[k : k + size] for k in range(0, len(weights), size)]


@rule("lstm_cell")
def lstm_cell(d: Any, node: fx.Node, x: Any, state: Sequence[Any], w: Any, v: Any, b: Any = None, c: Any = None) -> Any:
    _gates(d, x, d.constant(()), [w, v] if b is None else [w, v, b, c], 0)
    d.fix(*state)
    return _constants(d, node)


@rule("gru_cell")
def gru_cell(d: Any, node: fx.Node, x: Any, state: Any, w: Any, v: Any, b: Any = None, c: Any = None) -> Any:
    _gates(d, x, d.constant(()), [w, v] if b is None else [w, v, b, c], w.shape[0] // 3)
    d.fix(state)
    return _constants(d, node)


@rule("rnn_tanh_cell", "rnn_relu_cell")
def rnn_cell(d: Any, node: fx.Node, x: Any, state: Any, w: Any, v: Any, b: Any = None, c: Any = None) -> Any:
    """f(W x + b + V h + c), written out."""
    read = Contraction("az", "yz", "ay") if len(x.shape) == 2 else Contraction("z", "yz", "y")
    total = d.contract(x, w, read)
    if number_behind(node.args[1]) != 0:
        total = d.add(total, d.contract(state, v, read))
    if b is not None:
        total = d.add(total, d.add(b, c))
    return d.homogeneous(total) if "relu" in str(node.target) else d.nonlinear(total)
