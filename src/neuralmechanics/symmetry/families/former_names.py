"""Parts of an action by the names that they had in a family, so that scripts written for them still run."""

from __future__ import annotations

from typing import Any

from neuralmechanics.symmetry.families.actions import (
    Action,
    AffineShift,
    ComplexPairs,
    Diagonal,
    LinearBlocks,
    Rotation,
    Shear,
    Shift,
)

__all__ = ["FORMER", "former_parts"]

FORMER: dict[str, Any] = {
    "terms": (), "grams": (), "blocks": 0, "width": 0, "affine": (), "complex": False, "gauge": None,
}  # fmt: skip


def former_parts(action: Action) -> dict[str, Any]:
    """What a family with this action had under each of the names."""
    match action:
        case Diagonal() | Shift():
            return FORMER | {"terms": action.terms}
        case AffineShift():
            return FORMER | {"terms": action.terms, "affine": action.answers}
        case LinearBlocks():
            return FORMER | {"grams": action.terms, "blocks": action.blocks, "width": action.width}
        case ComplexPairs():
            return FORMER | {"grams": action.terms, "blocks": action.blocks, "width": 2, "complex": True}
        case Rotation() | Shear():
            return FORMER | {"gauge": action}
    return dict(FORMER)
