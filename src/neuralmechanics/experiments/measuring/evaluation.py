"""How well a network does on held-out examples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from neuralmechanics.experiments.losses import logits_of
from neuralmechanics.functional.as_found import left_as_found

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neuralmechanics.experiments.losses import LossFunction


@dataclass(frozen=True)
class Performance:
    """Mean cross-entropy, and the fractions of labels that are the best, or among the five best, classes.

    Where there are targets in the place of classes: the mean training loss, and nan.
    """

    loss: float
    top1: float
    top5: float


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_fn: LossFunction | None = None
) -> Performance:
    """Performance of `model` in evaluation mode; modes, buffers and all other state of it are put back.

    `loss_fn` is what is measured against targets that are no classes.
    """
    count, loss = 0, 0.0
    best: float = 0
    among: float = 0
    with left_as_found(model):
        model.eval()
        for inputs, labels in batches:
            if labels.is_floating_point():
                if loss_fn is None:
                    raise ValueError("targets that are no classes need the loss that they are trained with")
                count += len(labels)
                loss += float(loss_fn(model, (inputs, labels))) * len(labels)
                best = among = math.nan
                continue
            # Tokens of a sequence count as examples.
            logits = logits_of(model(inputs)).flatten(0, -2).double()
            labels = labels.flatten()
            ranked = logits.topk(min(5, logits.shape[-1])).indices == labels[:, None]
            count += len(labels)
            # A sum, divided at the end: batches may be of unequal size, and a mean of their means is none.
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            best += int(ranked[:, 0].sum())
            among += int(ranked.sum())
    if count == 0:
        raise ValueError("no examples to evaluate on")
    return Performance(loss / count, best / count, among / count)
