"""Calls of recurrent layers, with every option."""

from __future__ import annotations

from typing import Any

import torch

from .case import D, G, Operand, P, Z
from .table import Table

table = Table()
c = table.call
ROWS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def layers(gates: int, inputs: int, hidden: int, count: int, biases: bool, sides: int) -> list[Operand]:
    """The weights of stacked layers."""
    found = []
    for depth in range(count):
        width = inputs if depth == 0 else hidden * sides
        for _ in range(sides):
            found += [P(gates * hidden, width), P(gates * hidden, hidden)]
            found += [P(gates * hidden), P(gates * hidden)] if biases else []
    return found


for name, gates in ROWS.items():
    for inputs, hidden, count, biases, sides, first, steps in [
        (2, 2, 1, True, 1, False, 3),
        (2, 3, 1, False, 1, True, 2),
        (3, 2, 2, True, 1, False, 2),
        (2, 2, 1, True, 2, True, 3),
        (1, 2, 2, True, 2, False, 2),
        (2, 2, 1, True, 1, False, 1),
    ]:
        batch = 2
        x = D(batch, steps, inputs) if first else D(steps, batch, inputs)
        for state in (
            D(count * sides, batch, hidden),
            Z(count * sides, batch, hidden),
            P(count * sides, batch, hidden),
        ):
            given: Any = [state, state] if name == "lstm" else state
            weights = layers(gates, inputs, hidden, count, biases, sides)
            c(name, "input", x, given, weights, biases, count, 0.0, True, sides == 2, first)
        if count > 1:
            c(name, "input", x, given, weights, biases, count, 0.4, True, sides == 2, first)
            c(name, "input", x, given, weights, biases, count, 0.4, False, sides == 2, first)
    sizes = G(torch.tensor([2, 1, 1]))
    for hidden, count, biases, sides in [(2, 1, True, 1), (3, 1, False, 1), (2, 2, True, 2)]:
        state = Z(count * sides, 2, hidden)
        weights = layers(gates, 2, hidden, count, biases, sides)
        c(
            name,
            "data",
            D(4, 2),
            sizes,
            [state, state] if name == "lstm" else state,
            weights,
            biases,
            count,
            0.0,
            True,
            sides == 2,
        )
        if count > 1:
            c(
                name,
                "data",
                D(4, 2),
                sizes,
                [state, state] if name == "lstm" else state,
                weights,
                biases,
                count,
                0.4,
                False,
                sides == 2,
            )
for batch, inputs, hidden in [(2, 2, 2), (1, 3, 2), (3, 1, 3)]:
    for cell, gates in {"lstm_cell": 4, "gru_cell": 3, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}.items():
        for state in (D(batch, hidden), P(batch, hidden), Z(batch, hidden)):
            given = [state, state] if cell == "lstm_cell" else state
            w, v = P(gates * hidden, inputs), P(gates * hidden, hidden)
            c(cell, "default", D(batch, inputs), given, w, v)
            c(cell, "default", P(batch, inputs), given, w, v, P(gates * hidden), P(gates * hidden))
for shape, first in [((2, 3, 2), True), ((3, 2, 1), False), ((2, 2, 3), True)]:
    steps = shape[1] if first else shape[0]
    c("_pack_padded_sequence", "default", P(*shape), G(torch.tensor([steps, steps - 1])), first)
for first, padding, total in [(True, 0.0, 3), (False, 1.5, 3), (True, -1.0, 4)]:
    c("_pad_packed_sequence", "default", P(5, 2), G(torch.tensor([2, 2, 1])), first, padding, total)
    c("_pad_packed_sequence", "default", P(3, total), G(torch.tensor([2, 1])), first, padding, total)
