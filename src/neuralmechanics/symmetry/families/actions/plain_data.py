"""Actions as entries of a family's plain data; which entries are filled says which action it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuralmechanics.symmetry.families.actions.action import Action
from neuralmechanics.symmetry.families.actions.affine_diagonal import AffineDiagonal
from neuralmechanics.symmetry.families.actions.affine_shift import AffineShift
from neuralmechanics.symmetry.families.actions.bilinear import Bilinear
from neuralmechanics.symmetry.families.actions.diagonal import Diagonal
from neuralmechanics.symmetry.families.actions.mixing.complex_pairs import ComplexPairs
from neuralmechanics.symmetry.families.actions.mixing.linear_blocks import LinearBlocks
from neuralmechanics.symmetry.families.actions.mixing.rotation import Rotation
from neuralmechanics.symmetry.families.actions.mixing.shear import Shear
from neuralmechanics.symmetry.families.actions.own import Own
from neuralmechanics.symmetry.families.actions.shift import Shift

__all__ = ["action_from_dict", "action_to_dict"]

_GAUGES: dict[str, type[Rotation | Shear | Bilinear | Own]] = {
    "turn": Rotation,
    "shear": Shear,
    "bilinear": Bilinear,
    "own": Own,
}
_EMPTY: dict[str, Any] = {"terms": [], "grams": [], "blocks": 0, "affine": [], "complex": False, "gauge": None}


def action_to_dict(action: Action) -> dict[str, Any]:
    """All entries that describe actions, those that this one has not empty."""
    return _EMPTY | action.to_dict()


def action_from_dict(data: Mapping[str, Any]) -> Action:
    """The action of a family that was written; its kind tells shifts from factors."""
    gauge = data.get("gauge")
    if gauge:
        return _GAUGES[gauge["type"]].from_dict(data)
    if data["grams"]:
        return ComplexPairs.from_dict(data) if data["complex"] else LinearBlocks.from_dict(data)
    if data.get("displaced"):
        return AffineDiagonal.from_dict(data)
    if data["kind"] == "affine":
        return AffineShift.from_dict(data)
    return Shift.from_dict(data) if data["kind"] == "translation" else Diagonal.from_dict(data)
