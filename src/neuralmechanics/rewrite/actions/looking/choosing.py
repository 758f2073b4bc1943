"""Which spaces an action is for: all of a kind, or one by its name."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.symmetry.families.spaces import Space

__all__ = ["kind_of", "named_spaces"]


def kind_of(space: Space) -> str:
    """ "stream": channels that norms see by length; "head": those that linear maps alone see; else "channels"."""
    if space.group in ("orthogonal", "ones-preserving orthogonal"):
        return "stream" if not space.copies else "head"
    return "head" if space.group == "general linear" else "channels"


def named_spaces(subject: Subject, spaces: Sequence[Space], asked: str | None, kinds: Sequence[str]) -> list[Space]:
    """The spaces of one of ``kinds``, all of them or those that ``asked`` names; ``ValueError`` where it names none."""
    able = [space for space in spaces if kind_of(space) in kinds]
    if asked is None:
        return able
    found = [space for space in able if asked in (space.name, kind_of(space))]
    if not found and asked not in kinds:
        names = ", ".join(repr(space.name) for space in able[:6]) or "none"
        raise ValueError(f"no space {asked!r} with this action in {type(subject.model).__name__}; spaces: {names}")
    return found
