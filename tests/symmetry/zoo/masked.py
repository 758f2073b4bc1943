"""Weights times numbers of the model that are partly zero: pruned, autoregressive, causal in two dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from .registry import small


class Masked(nn.Linear):
    """An output that sees the inputs before it."""

    def __init__(self, inputs: int, outputs: int, how: str) -> None:
        super().__init__(inputs, outputs)
        self.how = how
        mask = (torch.arange(inputs) <= torch.arange(outputs)[:, None]).double()
        if how == "frozen":
            self.mask: Tensor = nn.Parameter(mask, requires_grad=False)
        else:
            self.register_buffer("mask", mask, persistent=how != "where")

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.where(self.mask > 0, self.weight, 0.0) if self.how == "where" else self.weight * self.mask
        return functional.linear(x, weight, self.bias)


class Causal(nn.Conv2d):
    """A kernel that sees the rows above, and what stands before it in its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        mask = torch.ones(3, 3)
        mask[1, 1:] = 0.0
        mask[2] = 0.0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.mask, self.bias, padding=1)


for _how in ("buffer", "where", "frozen"):
    small(f"masked-{_how}", (32, 5), "output")(
        lambda how=_how: nn.Sequential(Masked(5, 4, how), nn.ReLU(), Masked(4, 4, how))  # type: ignore[misc]
    )


@small("masked-convolutions", (8, 1, 4, 4), "output")
def masked_convolutions() -> nn.Module:
    return nn.Sequential(Causal(1, 3), nn.ReLU(), Causal(3, 2))


def pruned(which: str) -> nn.Sequential:
    """A network of which single weights, or all that leave two hidden units, are pruned."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    if which == "weights":
        prune.random_unstructured(network[0], "weight", amount=6)
    else:
        prune.ln_structured(network[2], "weight", amount=2, n=2, dim=1)
    return network


@small("pruned-weights", (32, 4), "output")
def pruned_weights() -> nn.Module:
    return pruned("weights")


@small("pruned-units", (32, 4), "output")
def pruned_units() -> nn.Module:
    return pruned("units")
