"""Permute: channels, heads, groups and experts in another order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.choosing import named_spaces
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.turning import permuted_space
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.symmetry.families.spaces import Space

__all__ = ["permute", "permute_pieces"]

_KINDS = ("channels", "head", "stream")
_WHOLE = (
    "its blocks are tensors that change places whole, which is no rewriting of single tensors: use "
    "symmetries.spaces and `space.transform(params, permutation)`"
)


def permute(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    permutation: Sequence[int] | Tensor | None = None,
    space: str | None = None,
    params: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Rewritten:
    """Channel k becomes what channel permutation[k] was, in every tensor in which the channels stand.

    ``permutation``: whole numbers [width], or one row a copy (head, expert); by default drawn from ``seed``. ``space``:
    the name of one of ``symmetries.channel_spaces``, or a kind of them ("stream", "head", "channels"); by default all.
    Blocks that change places whole (``symmetries.spaces``) are refused with the reason.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2)).double()
    >>> permuted = permute(model, torch.randn(5, 3, dtype=torch.float64), permutation=[3, 2, 1, 0])
    >>> bool((permuted.params["0.bias"] == model[0].bias.flip(0)).all()), permuted.certificate.ok
    (True, True)
    """
    subject = Subject(model, batch, loss_fn, params)
    pieces, refused = permute_pieces(subject, permutation, space, seed)
    return subject.rewritten(pieces, refused)


def permute_pieces(
    subject: Subject, permutation: Sequence[int] | Tensor | None = None, space: str | None = None, seed: int = 0
) -> tuple[list[Piece], list[Refusal]]:
    """One piece for each space."""
    wanted = named_spaces(subject, subject.symmetries.spaces, space, _KINDS)
    chosen = [one for one in wanted if not one.blocks]
    draw = torch.Generator().manual_seed(seed)
    given = None if permutation is None else torch.as_tensor(permutation)
    meant = chosen if space is None else wanted
    if given is not None and len(meant) != 1:
        names = ", ".join(repr(one.name) for one in meant[:6]) or "none"
        raise ValueError(f"a permutation is for one space, {len(meant)} are there; name it with space=: {names}")
    pieces: list[Piece] = []
    refused = [Refusal(one.name, _WHOLE) for one in wanted if one.blocks]
    for one in chosen:
        drawn = [text for text in one.requires if "dropout" in text]
        if drawn:
            refused.append(Refusal(one.name, f"{drawn[0]}, not the same: put the model in evaluation mode"))
            continue
        pieces.append(permuted_space(one, _order(one, given, draw)))
    if not subject.symmetries.channel_spaces:
        refused.append(Refusal(type(subject.model).__name__, subject.why_no_space()))
    return pieces, refused


def _order(space: Space, given: Tensor | None, draw: torch.Generator) -> np.ndarray:
    shape = (*space.copies_shape, space.width)
    if given is None:
        rows = [torch.randperm(space.width, generator=draw) for _ in range(math.prod(space.copies_shape))]
        found: np.ndarray = torch.stack(rows).reshape(shape).numpy()
        return found
    if tuple(given.shape) not in (shape, shape[-1:]) or given.is_floating_point():
        raise ValueError(f"permutation of shape {tuple(given.shape)} given, {shape} or {shape[-1:]} is needed")
    if not bool((given.sort(-1).values == torch.arange(space.width)).all()):
        raise ValueError(f"{given.tolist()} is no permutation of {space.width} channels")
    return given.numpy()
