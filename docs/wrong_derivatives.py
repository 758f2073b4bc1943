"""Operations of torch whose higher derivatives are silently wrong, each shown beside the same function written out.

    python docs/wrong_derivatives.py              # all
    python docs/wrong_derivatives.py layer_norm   # one

For f(t) = Σ c sin(y(x + tu)) the derivatives of order 1 to 4 by nested ``torch.autograd.grad``, through the operation
and through plain arithmetic, and the polynomial through first derivatives at fourteen points, which nests nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Function = Callable[[Tensor], Tensor]

_GENERATOR = torch.Generator().manual_seed(0)
X, U, C = (torch.randn(6, 4, generator=_GENERATOR, dtype=torch.float64) for _ in range(3))
GAIN = torch.tensor([[0.5], [1.0], [1.5], [0.7], [1.2], [0.9]], dtype=torch.float64)
WEIGHT = torch.randn(3, 4, generator=_GENERATOR, dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2])


def standardised(x: Tensor, dim: int) -> Tensor:
    """(x - μ)/√(σ² + 1e-5) along one dimension."""
    centred = x - x.mean(dim, keepdim=True)
    return centred / (centred.square().mean(dim, keepdim=True) + 1e-5).sqrt()


def chunked_loss(x: Tensor) -> Tensor:
    """Cross-entropy of x Wᵀ, two examples at a time."""
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
    return F.linear_cross_entropy(x, WEIGHT, CLASSES, options=options)


OPERATIONS: dict[str, tuple[Function, Function]] = {
    "layer_norm": (lambda x: F.layer_norm(x, (4,)), lambda x: standardised(x, 1)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), lambda x: standardised(x, 0)),
    "instance_norm": (lambda x: F.instance_norm(x[None])[0], lambda x: standardised(x, 1)),
    "weight_norm": (lambda x: torch._weight_norm(x, GAIN, 0), lambda x: GAIN * x / x.norm(dim=1, keepdim=True)),
}
if hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13 and later
    OPERATIONS["linear_cross_entropy"] = chunked_loss, lambda x: F.cross_entropy(x @ WEIGHT.T, CLASSES)


def scalar(operation: Function, t: Tensor) -> Tensor:
    """f(t)."""
    y = operation(X + t * U)
    return (y.sin() * C if y.ndim else y.sin()).sum()


def nested(operation: Function, orders: int = 4) -> list[float]:
    """Derivatives at t = 0 by nested reverse passes."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value, found = scalar(operation, t), []
    for _ in range(orders):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
        found.append(value.item())
    return found


def from_differences(operation: Function, orders: int = 4, reach: float = 0.05, points: int = 14) -> list[float]:
    """The same from the polynomial through first derivatives at Chebyshev points."""
    nodes = ((2 * torch.arange(points, dtype=torch.float64) + 1) * (math.pi / (2 * points))).cos()
    slopes = []
    for node in nodes.tolist():
        t = torch.tensor(reach * node, dtype=torch.float64, requires_grad=True)
        slopes.append(torch.autograd.grad(scalar(operation, t), t)[0].item())
    powers = nodes[:, None] ** torch.arange(points, dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(slopes, dtype=torch.float64)).tolist()
    return [found[k] * math.factorial(k) / reach**k for k in range(orders)]


def wrong_from(operation: str) -> int | None:
    """The first order that nesting gets wrong by more than a thousandth; None where all four are right."""
    fused, _ = OPERATIONS[operation]
    for order, (value, right) in enumerate(zip(nested(fused), from_differences(fused), strict=True), 1):
        if abs(value - right) > 1e-3 * abs(right):
            return order
    return None


def main(names: list[str]) -> None:
    """Prints the table of each operation."""
    print(f"torch {torch.__version__}")
    for name in names or list(OPERATIONS):
        fused, plain = OPERATIONS[name]
        print(f"\n{name}: wrong from order {wrong_from(name)}")
        print(f"{'order':>5} {'torch':>20} {'written out':>20} {'differences':>20}")
        rows = zip(nested(fused), nested(plain), from_differences(fused), strict=True)
        for order, (ours, by_hand, difference) in enumerate(rows, 1):
            print(f"{order:>5} {ours:>20.12g} {by_hand:>20.12g} {difference:>20.12g}")


if __name__ == "__main__":
    main(sys.argv[1:])
