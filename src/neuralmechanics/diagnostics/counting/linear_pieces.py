"""Linear pieces of networks with kinked activations: which units are on, and inputs that meet many pieces.

On one linear piece the gradient of an output is a fixed polynomial of the weights times the input, so new directions
come from new sign patterns only. Patterns are read from a forward pass, which is far cheaper than a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float64
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Kinks", "uncorrelated_signs", "varied"]

_KINKED: frozenset[Any] = frozenset(
    {F.relu, F.relu_, F.relu6, F.leaky_relu, F.leaky_relu_, F.prelu, F.rrelu, F.threshold, torch.relu, torch.relu_}
    | {torch.prelu, torch.abs, torch.Tensor.relu, torch.Tensor.relu_, torch.Tensor.abs}
)


class Kinks(TorchFunctionMode):
    """While active, keeps what every activation with a kink at zero reads, in the order of the calls.

    >>> with Kinks() as kinks:
    ...     _ = F.relu(torch.tensor([1.0, -2.0]))
    >>> kinks.read
    [tensor([ 1., -2.])]
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _KINKED:
            # a copy: the activation may work in place
            self.read.append((args[0] if args else (kwargs or {})["input"]).clone().reshape(-1))
        return func(*args, **(kwargs or {}))


def varied(read: Float64[Tensor, "inputs units"], count: int, generator: torch.Generator) -> Tensor:
    """Indices of ``count`` inputs, one of each sign pattern first, then a second of each, and so on.

    >>> varied(torch.tensor([[1.0], [2.0], [3.0], [-1.0]]), 2, torch.Generator())
    tensor([3, 0])
    """
    # equal patterns get equal keys to the last bit, for all rows are summed in one order
    code = torch.randn(read.shape[1], generator=generator, dtype=torch.float64)
    keys = torch.sort(torch.where(read > 0, code, -code).sum(1), stable=True)
    _, piece, sizes = torch.unique_consecutive(keys.values, return_inverse=True, return_counts=True)
    turn = torch.arange(len(keys.values)) - (sizes.cumsum(0) - sizes)[piece]
    chosen: Tensor = keys.indices[torch.argsort(turn, stable=True)[:count]]
    return chosen


def uncorrelated_signs(
    theta: Float64[Tensor, " D"],
    draw: Callable[[Tensor], Float64[Tensor, "inputs units"]],
    generator: torch.Generator,
    steps: int = 25,
    rate: float = 0.06,
) -> Float64[Tensor, " D"]:
    """θ moved so that every unit is on for half of the inputs and no two units tell the same of an input.

    A few Adam steps, fresh inputs each, on the squared correlations of the softened signs z/√(z² + (0.3 median|z|)²)
    with each other and, weighing more, with 1. It is not run to convergence, so θ stays as generic as its start.
    """
    theta = theta.clone().requires_grad_()
    mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
    for step in range(1, steps + 1):
        read = draw(theta)
        if read.shape[1] > _MOST_UNITS:
            read = read[:, torch.randperm(read.shape[1], generator=generator)[:_MOST_UNITS]]
        width = 0.3 * read.detach().abs().median(0).values + 1e-12
        signs = read * (read.square() + width.square()).rsqrt()
        shares = signs.mean(0)
        products = signs.mT @ signs / len(signs)
        loss = 8 * shares.square().sum() + products.square().sum() - products.diagonal().square().sum()
        (slope,) = torch.autograd.grad(loss, theta, materialize_grads=True)
        mean, square = 0.8 * mean + 0.2 * slope, 0.95 * square + 0.05 * slope.square()
        with torch.no_grad():
            theta -= rate * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
    return theta.detach()


# Their correlations are as many as its square, and these many say enough of the rest.
_MOST_UNITS = 400
