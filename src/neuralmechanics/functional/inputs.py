"""Random inputs shaped like a given batch: what stands for "all inputs" when laws are counted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["call", "pick", "resample", "signature", "stack", "to_double"]


def to_double(batch: Any) -> Any:
    """The batch on the processor, with every floating tensor in float64."""

    def doubled(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.detach().to("cpu", torch.float64 if leaf.is_floating_point() else leaf.dtype)

    return pytree.tree_map(doubled, batch)


def resample(batch: Any, generator: torch.Generator, count: int) -> Any:
    """``count`` batches of the same structure and shapes with new content, stacked along a new first dimension.

    Floating tensors become normal, of a spread drawn anew per sample: half of them between ½ and 2, half log-uniform
    between 1/32 and 32, so that linear pieces near and far from the origin are met. Integers become uniform between
    the least and greatest value present (a class or token that the batch lacks is never drawn); booleans stay.
    """

    def fresh(leaf: Any) -> Any:
        return _fresh(leaf, generator, count) if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(fresh, batch)


def _fresh(leaf: Tensor, generator: torch.Generator, count: int) -> Tensor:
    shape = (count, *leaf.shape)
    if leaf.is_floating_point():
        lead = (*shape[:2], *[1] * (len(shape) - 2))
        wide, exponent = torch.rand(2, *lead, generator=generator, dtype=leaf.dtype)
        # 4^(u-½) lies between ½ and 2, 1024^(u-½) between 1/32 and 32.
        spread = torch.where(wide < 0.5, 4.0, 1024.0) ** (exponent - 0.5)
        normal: Tensor = torch.randn(shape, generator=generator, dtype=leaf.dtype)
        scaled: Tensor = normal * spread
        return scaled
    if leaf.dtype == torch.bool or leaf.is_complex() or leaf.numel() == 0:
        return leaf.expand(shape)
    low, high = int(leaf.min()), int(leaf.max())
    return torch.randint(low, high + 1, shape, generator=generator, dtype=leaf.dtype)


def pick(stack: Any, index: int) -> Any:
    """One batch of a stack."""
    return pytree.tree_map(lambda leaf: leaf[index] if isinstance(leaf, Tensor) else leaf, stack)


def stack(batches: Sequence[Any]) -> Any:
    """Batches of one structure and of equal shapes, stacked along a new first dimension."""
    leaves, structures = zip(*(pytree.tree_flatten(batch) for batch in batches), strict=True)
    merged = [
        torch.stack(column) if isinstance(column[0], Tensor) else column[0] for column in zip(*leaves, strict=True)
    ]
    return pytree.tree_unflatten(merged, structures[0])


def signature(batch: Any) -> Hashable:
    """What two batches must share to be stacked: their structure, and shape and type of every tensor."""
    leaves, structure = pytree.tree_flatten(batch)
    return (str(structure), *((tuple(x.shape), x.dtype) if isinstance(x, Tensor) else repr(x) for x in leaves))


def call(model: Any, batch: Any) -> Tensor:
    """The model's output on a batch, as one real tensor: a tensor is one argument, a tuple several, a dict names them.

    Of a structured output the field ``logits`` is taken where there is one, else its floating tensors in turn.
    """
    if isinstance(batch, dict):
        output = model(**batch)
    elif isinstance(batch, (tuple, list)):
        output = model(*batch)
    else:
        output = model(batch)
    if isinstance(getattr(output, "logits", None), Tensor):
        output = output.logits
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and not _is_integral(leaf)]
    if not leaves:
        raise TypeError(
            f"the model returned {type(output).__name__} without a floating tensor; pass loss_fn(model, batch)"
        )
    return torch.cat([(torch.view_as_real(x) if x.is_complex() else x).reshape(-1) for x in leaves])


def _is_integral(leaf: Tensor) -> bool:
    return not (leaf.is_floating_point() or leaf.is_complex())
