"""Centre: what is written into a stream loses its mean, where norms that subtract the mean alone read the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.centring_norms import centring_norms
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.preparing import pruned
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.actions.untying import untie_pieces
from neuralmechanics.rewrite.plan import Centre, Place

__all__ = ["centre", "centre_pieces"]


def centre(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    params: Mapping[str, Tensor] | None = None,
    prepare: bool = False,
) -> Rewritten:
    """The mean over the channels is taken off every tensor that writes a stream: its layer norms have none to subtract.

    x - mean(x) = x for what they then read, so that each computes what an RMS norm of the same gain, bias and eps does.
    Source: Ashkboos et al. 2024 (SliceGPT), section 3. ``prepare``: tied tensors are untied first, so that an embedding
    that is a head as well can lose its mean.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    >>> centred = centre(model, nn.init.normal_(nn.Linear(3, 5).double().weight).detach())
    >>> bool(centred.params["0.weight"].mean(0).abs().max() < 1e-15), centred.plan.tensors
    (True, ('0.weight', '0.bias'))
    """
    subject = Subject(model, batch, loss_fn, params)
    if prepare:
        subject = subject.after(untie_pieces(subject))
    pieces, refused = centre_pieces(subject)
    return pruned(subject, pieces).rewritten(pieces, refused)


def centre_pieces(subject: Subject) -> tuple[list[Piece], list[Refusal]]:
    """One piece a norm, for what the norms before it have not centred yet; none where any of its writers must stay."""
    pieces: list[Piece] = []
    refused: list[Refusal] = []
    centred: set[tuple[str, int]] = set()
    norms = centring_norms(subject.program)
    for norm in norms:
        if norm.reason:
            refused.append(Refusal(norm.place, norm.reason + _advice(subject, norm.reason)))
            continue
        fresh = [axis for axis in norm.writers if axis not in centred]
        centred.update(fresh)
        changes = tuple(Centre(name, Place.whole(axis, subject.shape(name)[axis])) for name, axis in fresh)
        pieces.append(Piece(f"mean before {norm.place}", changes))
    if not norms:
        refused.append(Refusal(type(subject.model).__name__, "no norm that subtracts a mean over channels was found"))
    return pieces, refused


def _advice(subject: Subject, reason: str) -> str:
    tied = [alias for alias, name in subject.aliases.items() if reason.endswith(f" {name}")]
    return f", which is also {tied[0]}: untie first" if tied else ""
