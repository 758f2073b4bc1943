"""Random inputs shaped like a given batch: what stands for "all inputs" when laws are counted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["call", "resample", "to_double"]


def to_double(batch: Any) -> Any:
    """The batch with every floating tensor in float64."""
    return pytree.tree_map(
        lambda leaf: leaf.detach().double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, batch
    )


def resample(batch: Any, generator: torch.Generator) -> Any:
    """A batch of the same structure and shapes with new content.

    Floating tensors become normal, of a spread drawn anew per sample between ½ and 2, so that kinks away from the
    origin are met; integers become uniform between the least and greatest value present (a class or token that the
    batch lacks is never drawn); booleans and everything else stay.
    """
    return pytree.tree_map(lambda leaf: _fresh(leaf, generator) if isinstance(leaf, Tensor) else leaf, batch)


def _fresh(leaf: Tensor, generator: torch.Generator) -> Tensor:
    if leaf.is_floating_point():
        noise = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        if leaf.ndim == 0:
            return noise
        spread = torch.rand((leaf.shape[0], *[1] * (leaf.ndim - 1)), generator=generator, dtype=leaf.dtype)
        return noise * 4.0 ** (spread - 0.5)
    if leaf.dtype == torch.bool or leaf.is_complex() or leaf.numel() == 0:
        return leaf
    low, high = int(leaf.min()), int(leaf.max())
    return torch.randint(low, high + 1, leaf.shape, generator=generator, dtype=leaf.dtype)


def call(model: Any, batch: Any) -> Tensor:
    """The model's output on a batch, as one real tensor: a tensor is one argument, a tuple several, a dict names them.

    Of a structured output the field ``logits`` is taken where there is one, else its floating tensors, one after another.
    """
    if isinstance(batch, dict):
        output = model(**batch)
    elif isinstance(batch, (tuple, list)):
        output = model(*batch)
    else:
        output = model(batch)
    if isinstance(getattr(output, "logits", None), Tensor):
        output = output.logits
    leaves = [
        leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and not _is_integral(leaf)
    ]
    if not leaves:
        raise TypeError(
            f"the model returned {type(output).__name__} without a floating tensor; pass loss_fn(model, batch)"
        )
    return torch.cat([(torch.view_as_real(x) if x.is_complex() else x).reshape(-1) for x in leaves])


def _is_integral(leaf: Tensor) -> bool:
    return not (leaf.is_floating_point() or leaf.is_complex())
