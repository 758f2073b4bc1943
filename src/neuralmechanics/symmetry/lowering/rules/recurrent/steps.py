"""One step of an LSTM, a GRU or a layer of hyperbolic tangents, in single operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import take
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value

__all__ = ["step", "tanh"]


def step(d: Builder, read: Value, seen: Value | None, state: Sequence[Value | None], kind: str) -> list[Value]:
    """One step of an LSTM (its rows in the order i, f, g, o), of a GRU (r, z, n), or of hyperbolic tangents."""
    if kind == "rnn_tanh":
        return [tanh(d, _total(d, read, seen))]
    if kind == "gru":
        (reset, kept, new), (r, z, n) = _cut(d, read, 3), (None, None, None) if seen is None else _cut(d, seen, 3)
        update = _total(d, kept, z)
        passed = d.nonlinear(_total(d, reset, r), nonnegative=True, function=_SIGMOID)
        candidate = tanh(d, new if n is None else d.add(new, d.mul(passed, n)))
        fresh = d.mul(d.nonlinear(update, nonnegative=True, function=_COMPLEMENT), candidate)
        h = state[0]
        old = None if h is None else d.mul(d.nonlinear(update, nonnegative=True, function=_SIGMOID), h)
        return [_total(d, fresh, old)]
    entered, forgotten, new, shown = _cut(d, _total(d, read, seen), 4)
    enters = d.nonlinear(entered, nonnegative=True, function=_SIGMOID)
    fresh, cell = d.mul(enters, tanh(d, new)), state[1]
    old = None if cell is None else d.mul(d.nonlinear(forgotten, nonnegative=True, function=_SIGMOID), cell)
    cell = _total(d, fresh, old)
    return [d.mul(d.nonlinear(shown, nonnegative=True, function=_SIGMOID), tanh(d, cell)), cell]


_SIGMOID = function_of("sigmoid", torch.sigmoid)
_COMPLEMENT = function_of("1 - sigmoid", lambda x: torch.sigmoid(-x))


def tanh(d: Builder, x: Value) -> Value:
    return d.nonlinear(x, function=function_of("tanh", torch.tanh), parity=-1)


def _total(d: Builder, x: Value, y: Value | None) -> Value:
    return x if y is None else d.add(x, y)


def _cut(d: Builder, x: Value, count: int) -> list[Value]:
    """The last dimension in parts of equal width."""
    width = x.shape[-1] // count
    return [take(d, x, len(x.shape) - 1, range(k * width, (k + 1) * width)) for k in range(count)]
