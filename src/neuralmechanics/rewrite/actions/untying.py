"""Untie: parameters with several names (embedding and head) become tensors of their own, with the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.plan import Copy

__all__ = ["untie", "untie_pieces", "untied_or_not"]


def untie(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, params: Mapping[str, Tensor] | None = None
) -> Rewritten:
    """Every further name of a parameter gets a copy. The model that loads it must tie them no longer.

    For a Transformers model: ``tie_word_embeddings=False`` in its configuration; ``certificate.requires`` says it.
    """
    subject = Subject(model, batch, loss_fn, params)
    return subject.rewritten(*untied_or_not(subject))


def untied_or_not(subject: Subject) -> tuple[list[Piece], list[Refusal]]:
    """The copies, or that there is nothing to copy."""
    pieces = untie_pieces(subject)
    name = type(subject.model).__name__
    return pieces, [] if pieces else [Refusal(name, "no parameter has a second name: there is nothing to untie")]


def untie_pieces(subject: Subject) -> list[Piece]:
    """A copy for each alias."""
    return [Piece(f"tie of {alias} and {name}", (Copy(alias, name),)) for alias, name in subject.aliases.items()]
