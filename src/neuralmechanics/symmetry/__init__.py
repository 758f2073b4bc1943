"""What leaves the loss unchanged: families of parameter symmetries, found from the model's graph."""

from neuralmechanics.symmetry.family import KINDS, Breaking, Family, Kind
from neuralmechanics.symmetry.find import find_symmetries
from neuralmechanics.symmetry.symmetries import Coverage, Symmetries, UnknownOperation

__all__ = ["KINDS", "Breaking", "Coverage", "Family", "Kind", "Symmetries", "UnknownOperation", "find_symmetries"]
