"""A network under test: what both the engine and the brute-force oracle are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = ("output", "mse", "log_softmax", "cross_entropy", "label_smoothing")


@dataclass(frozen=True, eq=False)
class Network:
    """A module in float64 training mode, random batches for it, and the head through which it is judged.

    `head` "output": the raw output; "mse": its squared error; "log_softmax": the logits pass through a log-softmax
    over the last axis, the output is judged; "cross_entropy" and "label_smoothing": class indices are the targets.
    `inputs(generator)` draws the positional arguments of the module.
    """

    name: str
    module: nn.Module
    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    head: str = "output"

    def __repr__(self) -> str:
        return f"Network({self.name!r}, head={self.head!r},\n{self.module!r})"

    def batch(self, seed: int = 0) -> tuple[Any, ...]:
        """Inputs followed, for a head that needs one, by a target."""
        generator = torch.Generator().manual_seed(seed)
        inputs = self.inputs(generator)
        if self.head in ("output", "log_softmax"):
            return inputs
        with torch.no_grad():
            output = primary(self.module(*inputs))
        if self.head == "mse":
            return (*inputs, torch.randn(output.shape, generator=generator, dtype=output.dtype))
        return (*inputs, torch.randint(output.shape[-1], output.shape[:-1], generator=generator))

    def observed(self, batch: tuple[Any, ...]) -> Tensor:
        """The quantity that every admissible loss is a function of: its Jacobian's kernel is the truth."""
        if self.head == "output":
            return primary(self.module(*batch))
        if self.head == "mse":
            return primary(self.module(*batch[:-1]))
        inputs = batch if self.head == "log_softmax" else batch[:-1]
        return functional.log_softmax(primary(self.module(*inputs)), dim=-1)

    @property
    def loss_fn(self) -> Callable[[nn.Module, Any], Tensor] | None:
        """What `find_symmetries` is given; None lets it judge the output itself."""
        return {
            "output": None,
            "mse": _mse,
            "log_softmax": _log_softmax,
            "cross_entropy": _cross_entropy,
            "label_smoothing": _label_smoothing,
        }[self.head]


def primary(output: Any) -> Tensor:
    """The first tensor of a structured output."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def _log_softmax(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
    return functional.log_softmax(primary(model(*batch)), dim=-1)


def _mse(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
    return functional.mse_loss(primary(model(*batch[:-1])), batch[-1])


def _cross_entropy(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
    return functional.cross_entropy(primary(model(*batch[:-1])).flatten(0, -2), batch[-1].flatten())


def _label_smoothing(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
    logits = primary(model(*batch[:-1]))
    return functional.cross_entropy(logits.flatten(0, -2), batch[-1].flatten(), label_smoothing=0.1)


def prepared(module: nn.Module, eps: float = 1e-20) -> nn.Module:
    """The module in float64, training mode, every norm's eps at `eps`, every dropout at 0: the idealised network."""
    module = module.double().train()
    for part in module.modules():
        for attribute in ("eps", "variance_epsilon", "layer_norm_epsilon", "epsilon"):
            if isinstance(getattr(part, attribute, None), float):
                setattr(part, attribute, eps)
        if isinstance(part, nn.RMSNorm):
            part.eps = eps  # None there stands for the machine precision
        if isinstance(part, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0  # attention and recurrent modules keep a rate
    return module
