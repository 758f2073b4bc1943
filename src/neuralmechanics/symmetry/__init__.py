"""What leaves the loss unchanged: families of parameter symmetries, and how they are found."""

from typing import Any

from neuralmechanics.functional.as_found import EmptiedCacheWarning
from neuralmechanics.symmetry.families.family import KINDS, Breaking, Family, Kind
from neuralmechanics.symmetry.families.spaces import Element, Space, spaces_table
from neuralmechanics.symmetry.families.symmetries import Coverage, Symmetries, UnknownOperation
from neuralmechanics.symmetry.finding.find import find_symmetries
from neuralmechanics.symmetry.finding.lowered_program import lowered_program
from neuralmechanics.symmetry.program.program import Program

# Asked of symmetries, one floor above; offered here as well, and loaded only when they are.
_DIAGNOSTICS = (
    "GradientFlow",
    "HeavyBall",
    "LawCount",
    "SignDescent",
    "WeightDecay",
    "assert_symmetric",
    "balance",
    "check_symmetries",
    "count_laws",
    "lint",
    "measure_breaking",
    "probe_symmetries",
    "update_defect",
)

__all__ = [
    "KINDS",
    "Breaking",
    "Coverage",
    "Element",
    "EmptiedCacheWarning",
    "Family",
    "Kind",
    "Program",
    "Space",
    "Symmetries",
    "UnknownOperation",
    "find_symmetries",
    "lowered_program",
    "spaces_table",
    *_DIAGNOSTICS,
]


def __getattr__(name: str) -> Any:
    if name in _DIAGNOSTICS:
        from neuralmechanics import diagnostics

        return getattr(diagnostics, name)
    raise AttributeError(f"module 'neuralmechanics.symmetry' has no attribute {name!r}")
