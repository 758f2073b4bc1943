"""Recurrent cells: one step, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand
from neuralmechanics.symmetry.lowering.rules.recurrent.steps import step, tanh
from neuralmechanics.symmetry.lowering.rules.registry import Operand, number_in, rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


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
    # A state of zeros reads nothing of V, so that V is free; the number itself would not show that.
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
