"""Operations of torch whose nested reverse derivatives are silently wrong, from which order on, as measured.

Each was found by comparing derivatives of order 1 to 4 with differences of first derivatives in float64, over all
operations of torch that have one (torch 2.13, CPU). ``docs/wrong_derivatives.py`` shows every line of this table.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A fused operation, its nodes in autograd's graph, and the first order of derivative that is wrong."""

    operation: str
    nodes: tuple[str, ...]
    order: int


FAULTS: tuple[Fault, ...] = (
    Fault("layer_norm", ("NativeLayerNormBackward",), 3),
    Fault(
        "batch_norm",
        tuple(
            f"{kind}Backward"
            for kind in ("NativeBatchNorm", "NativeBatchNormLegit", "BatchNormWithUpdate", "CudnnBatchNorm")
        ),
        3,
    ),
    Fault("instance_norm", (), 3),  # a batch norm of its own, and seen as one
    Fault("weight_norm", ("WeightNormInterfaceBackward",), 2),
    Fault("linear_cross_entropy", ("_linear_cross_entropy_batch_chunked",), 2),
)
