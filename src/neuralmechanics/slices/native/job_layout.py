"""How work is written down for the compiled library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.slices.blocks import Derived, Operand, first_of

__all__ = ["BLOCK", "JOB", "OPERANDS", "PAIRS", "TYPES", "addresses_of", "fill_constants", "fill_job"]

# The same as in the sources beside this file, whose sizes of a job and of a block are compared with those here.
OPERANDS, PAIRS = 6, 16
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_OPERAND = np.dtype([("type", "i8"), ("kind", "i8"), ("scale", "f8"), ("root", "f8"), ("eps", "f8")])
_COUNTS = [(name, "i8") for name in ("operands", "pairs", "forms", "weights")]
_PAIRS = [(name, "i8", PAIRS) for name in ("left", "right")]
JOB = np.dtype([("numbers", "i8", 4), *_COUNTS, *_PAIRS, ("operand", _OPERAND, OPERANDS), ("addresses", "i8")])
"""One tensor. `numbers`: rows, columns and the places of their sums, -1 where none are wanted; or outer, channels and
inner."""
BLOCK = np.dtype([("job", "i8"), ("first", "i8"), ("width", "i8"), ("place", "i8"), ("sign", "f8")])
"""Channels of a tensor, in the table of channels, and where the upper triangle of their Gram matrix goes."""


def fill_job(
    job: np.ndarray,
    operands: Sequence[Operand],
    pairs: Sequence[tuple[int, int]],
    numbers: tuple[int, int, int, int],
    *,
    forms: int,
    weights: int,
) -> None:
    """Write one tensor's work down as the library reads it, all but where its tensors lie."""
    job["numbers"] = numbers
    job["operands"], job["pairs"], job["forms"] = len(operands), len(pairs), forms
    job["weights"] = weights
    job["left"][: len(pairs)] = [left for left, _ in pairs]
    job["right"][: len(pairs)] = [right for _, right in pairs]
    for k, operand in enumerate(operands):
        of = job["operand"][k]
        of["type"] = TYPES[first_of(operand).dtype]
        of["kind"] = 0
        if isinstance(operand, Derived):
            of["kind"] = 1 if operand.adam is None else 2 if operand.adam.squared else 3
            fill_constants(of, operand)


def addresses_of(operand: Operand) -> tuple[int, int]:
    """Where its tensors lie."""
    if isinstance(operand, Tensor):
        return operand.data_ptr(), 0
    return operand.first.data_ptr(), operand.second.data_ptr()


def fill_constants(of: np.ndarray, operand: Derived) -> None:
    """Write down what Adam's step has besides its moments: other numbers at every step."""
    if operand.adam is not None:
        of["scale"], of["root"], of["eps"] = operand.adam.scale, operand.adam.root, operand.adam.epsilon
