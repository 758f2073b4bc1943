"""What a reader of a map should know of the symmetries behind it."""

from __future__ import annotations

from neuralmechanics.symmetry import Symmetries

__all__ = ["notes_on"]


def notes_on(symmetries: Symmetries) -> tuple[str, ...]:
    """Tied tensors, operations that could not be looked through, and for what the symmetries hold."""
    unknown = [f"not looked through, so that nothing is claimed there: {operation}" for operation in symmetries.unknown]
    needs = dict.fromkeys(need for family in symmetries for need in family.requires)
    return (*unknown, *(f"holds for: {need}" for need in needs), *symmetries.notes)
