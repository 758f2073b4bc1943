"""Enlarge, then act: exact rewrites after which a model has symmetries that it lacks as it is."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.folding import fold_pieces
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.rewritten import Refusal
from neuralmechanics.rewrite.actions.untying import untie_pieces
from neuralmechanics.rewrite.plan import Copy

__all__ = ["prepared", "pruned"]


def prepared(subject: Subject) -> tuple[Subject, list[Refusal]]:
    """The subject after its tied tensors are untied and its gains folded, and what could not be folded."""
    pieces = untie_pieces(subject)
    subject = subject.after(pieces) if pieces else subject
    folded, refused = fold_pieces(subject)
    return (subject.after(folded) if folded else subject), refused


def pruned(subject: Subject, pieces: Sequence[Piece]) -> Subject:
    """The subject without copies of tensors that nothing changes: they may stay tied."""
    changes = [c for piece in (*subject.prior, *pieces) for c in piece.changes]
    changed = {c.tensor for c in changes if not isinstance(c, Copy)}
    kept = [
        piece
        for piece in subject.prior
        if any(not isinstance(c, Copy) or {c.tensor, c.source} & changed for c in piece.changes)
    ]
    if len(kept) == len(subject.prior):
        return subject  # what has been captured of it holds
    return Subject(subject.model, subject.batch, subject.loss_fn, subject.params, tuple(kept))
