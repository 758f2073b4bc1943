"""Enlarge, then act: exact rewrites after which a model has symmetries that it lacks as it is."""

from __future__ import annotations

from neuralmechanics.rewrite.actions.folding import fold_pieces
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.rewritten import Refusal
from neuralmechanics.rewrite.actions.untying import untie_pieces

__all__ = ["prepared"]


def prepared(subject: Subject) -> tuple[Subject, list[Refusal]]:
    """The subject after its tied tensors are untied and its gains folded, and what could not be folded."""
    pieces = untie_pieces(subject)
    subject = subject.after(pieces) if pieces else subject
    folded, refused = fold_pieces(subject)
    return (subject.after(folded) if folded else subject), refused
