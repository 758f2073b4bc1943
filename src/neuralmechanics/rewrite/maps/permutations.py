"""Permutation specifications: which permutation stands along which dimension of which tensor."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from torch import nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.maps.modules import Layers, looked_at
from neuralmechanics.rewrite.maps.notes import notes_on
from neuralmechanics.rewrite.maps.places import Refusal, merged
from neuralmechanics.symmetry import Space, Symmetries

__all__ = ["PermutationSpec", "permutation_spec"]


@dataclass(frozen=True)
class PermutationSpec:
    """Which permutation stands along which dimension: of each permutation its places, of each tensor its permutations.

    ``perm_to_axes`` has a list of (tensor, dimension), ``axes_to_perm`` a permutation or None for each dimension of
    every tensor of the model's state dict. After any choice of permutations, each taken along all dimensions that it
    names, the model computes the same. ``widths`` says how many channels each permutes.
    """

    perm_to_axes: dict[str, list[tuple[str, int]]]
    axes_to_perm: dict[str, tuple[str | None, ...]]
    widths: dict[str, int]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": "permutations",
            "perm_to_axes": {name: [list(place) for place in places] for name, places in self.perm_to_axes.items()},
            "axes_to_perm": {name: list(perms) for name, perms in self.axes_to_perm.items()},
            "widths": self.widths,
            "refused": [{"tensors": list(r.tensors), "reason": r.reason} for r in self.refused],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return json.dumps({name: self.to_dict()[name] for name in ("perm_to_axes", "axes_to_perm")}, indent=2)


def permutation_spec(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, symmetries: Symmetries | None = None
) -> PermutationSpec:
    """The permutations of whole dimensions that leave a model unchanged, in the form of git-re-basin.

    Spaces that the form cannot hold are refused with the reason: channels inside a packed dimension, a permutation of
    its own for each head. Raises ``ValueError`` with the reasons where nothing is left.

    Source: Ainsworth, Hayase and Srinivasa 2023, Git Re-Basin, and its ``PermutationSpec``.
    """
    layers, found = looked_at(model, batch, loss_fn, symmetries)
    axes: dict[str, list[tuple[str, int]]] = {}
    refused: list[Refusal] = []
    for space in found.spaces:
        reason = _refusal(space)
        if reason is None:
            axes[space.name] = [(n, e.axis) for e in space.entries for n in layers.all_names(e.parameter)]
        else:
            refused.append(Refusal(space.parameters, reason))
    if not axes:
        reasons = "; ".join(map(str, merged(refused))) or "it has no space of channels"
        raise ValueError(
            f"nothing of {type(model).__name__} can be expressed as a permutation specification: {reasons}"
        )
    widths = {space.name: space.width for space in found.channel_spaces if space.name in axes}
    return PermutationSpec(axes, _by_tensor(axes, layers), widths, merged(refused), notes_on(found))


def _by_tensor(axes: dict[str, list[tuple[str, int]]], layers: Layers) -> dict[str, tuple[str | None, ...]]:
    held: dict[str, dict[int, str]] = defaultdict(dict)
    for name, places in axes.items():
        for tensor, axis in places:
            held[tensor][axis] = name
    saved = layers.model.state_dict()
    # Buffers that are not saved are of no concern to who merges checkpoints.
    return {name: tuple(held[name].get(axis) for axis in range(tensor.ndim)) for name, tensor in saved.items()}


def _refusal(space: Space) -> str | None:
    """Why a space is no permutation of whole dimensions."""
    if space.blocks:
        return f"its {space.width} blocks are tensors that change places whole; the format permutes dimensions"
    if space.copies:
        copies = math.prod(space.copies_shape)
        return f"each of its {copies} heads, groups or experts has its own permutation; the format has one a dimension"
    packed = next((entry for entry in space.entries if not entry.whole), None)
    if packed is not None:
        size = packed.shape[packed.axis]
        return (
            f"its {space.width} channels are a part of, or spread over, {size} places; "
            "the format permutes whole dimensions"
        )
    if any(len(axes) > 1 for axes in space.axes().values()):
        twice = next(name for name, axes in space.axes().items() if len(axes) > 1)
        return f"it stands along two dimensions of {twice}; weight matching takes one a tensor"
    return None
