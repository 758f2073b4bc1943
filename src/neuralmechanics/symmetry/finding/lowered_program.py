"""The program of a model, as every search for symmetries reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.functional.function_module import as_module
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.graph.liveness import live
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.passes.rewriting.rewritten import rewritten
from neuralmechanics.symmetry.program.program import Program

__all__ = ["lowered_program"]


def lowered_program(
    model: nn.Module | Callable[[dict[str, Tensor], Any], Any],
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    params: Mapping[str, Tensor] | None = None,
) -> Program:
    """The model as a straight line of typed primitives; the arguments are those of ``find_symmetries``.

    Printing it shows what the search for symmetries sees: every operation in terms of primitives, with shapes, the
    parameters it reads and its place in the model; an operation that is not followed is a ``forget`` with the reason.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> print(lowered_program(model, torch.zeros(5, 3)))
    parameter 0.weight: [4, 3]
    parameter 0.bias: [4]
    0:
      %0: [5, 4] = contract("az,yz->ay", batch [5, 3], 0.weight)  # aten.linear
      %1: [5, 4] = add(%0, 0.bias)
    1:
      %2: [5, 4] ≥ 0 = homogeneous[relu](%1)  # aten.relu
      fix(%2)
    """
    return rewritten(lower(live(capture(as_module(model, params), batch, loss_fn))).program)
