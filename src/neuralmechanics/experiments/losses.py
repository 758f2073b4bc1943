"""Training losses as functions of (model, batch): what symmetry search, training and checks all differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.nn import functional

from neuralmechanics.experiments.importing import named_function

if TYPE_CHECKING:
    from torch import Tensor, nn

    Batch = tuple[Tensor, Tensor]
    LossFunction = Callable[[nn.Module, Batch], Tensor]


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output: the tensor itself, or the field `logits` of a structured output."""
    result: Tensor = getattr(output, "logits", output)
    return result


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of -log softmax(model(x))[y] over examples (and places of a sequence)."""
    inputs, labels = batch
    logits = logits_of(model(inputs))
    if labels.is_floating_point():
        raise ValueError(
            "cross-entropy takes classes, and the labels are numbers; train with loss='mse' or one of your own, "
            "loss='package.module:function'"
        )
    # Sequences count each place as an example.
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def mean_squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over examples and classes of (model(x) - one-hot(y))², or of (model(x) - y)² where y are numbers."""
    inputs, labels = batch
    logits = logits_of(model(inputs))
    if labels.is_floating_point():
        # Targets that are numbers are what the model is to put out; classes stand for one-hot vectors.
        return functional.mse_loss(logits, labels.to(logits.dtype).reshape(logits.shape))
    return functional.mse_loss(logits, functional.one_hot(labels, logits.shape[-1]).to(logits.dtype))


def loss_function(name: str) -> LossFunction:
    """`cross_entropy` or `mean_squared_error` by its configuration name, or `package.module:function` of one's own.

    A function of one's own is called as `function(model, (inputs, labels))` and returns the scalar that is descended.
    """
    if ":" in name:
        return named_function(name, "loss")
    known: dict[str, LossFunction] = {"cross-entropy": cross_entropy, "mse": mean_squared_error}
    if name not in known:
        raise ValueError(f"unknown loss {name!r}; known are {', '.join(known)}, package.module:function")
    return known[name]
