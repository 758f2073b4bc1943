"""Spaces of channels: the group that acts on each, the tensors on which it acts, and how."""

from neuralmechanics.symmetry.families.actions.terms.placement import Digit, Placement
from neuralmechanics.symmetry.families.spaces.element import Element
from neuralmechanics.symmetry.families.spaces.entry import Entry
from neuralmechanics.symmetry.families.spaces.groups import GROUPS, Copies, Direction, SpaceGroup
from neuralmechanics.symmetry.families.spaces.space import Space
from neuralmechanics.symmetry.families.spaces.table import spaces_table

__all__ = [
    "GROUPS",
    "Copies",
    "Digit",
    "Direction",
    "Element",
    "Entry",
    "Placement",
    "Space",
    "SpaceGroup",
    "spaces_table",
]
