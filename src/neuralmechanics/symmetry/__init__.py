"""What leaves the loss unchanged: families of parameter symmetries, and how they are found."""

from typing import Any

from neuralmechanics.functional.as_found import EmptiedCacheWarning
from neuralmechanics.symmetry.families.family import KINDS, Breaking, Family, Kind
from neuralmechanics.symmetry.families.own_symmetries import from_generator, from_transformation
from neuralmechanics.symmetry.families.spaces import Element, Space, spaces_table
from neuralmechanics.symmetry.families.symmetries import Coverage, Symmetries, UnknownOperation
from neuralmechanics.symmetry.finding.find import find_symmetries
from neuralmechanics.symmetry.finding.lowered_program import lowered_program
from neuralmechanics.symmetry.finding.rule_check import RuleCheck, check_rule
from neuralmechanics.symmetry.lowering.own_operations import decomposition, rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.program import Program
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value

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
    "Builder",
    "Contraction",
    "Coverage",
    "Element",
    "EmptiedCacheWarning",
    "Expand",
    "Family",
    "Function",
    "Kind",
    "NotSoughtError",
    "Permute",
    "Program",
    "Reshape",
    "RuleCheck",
    "Space",
    "Symmetries",
    "UnknownOperation",
    "UnsupportedFormError",
    "Value",
    "check_rule",
    "decomposition",
    "find_symmetries",
    "from_generator",
    "from_transformation",
    "lowered_program",
    "rule",
    "spaces_table",
    *_DIAGNOSTICS,
]


def __getattr__(name: str) -> Any:
    if name in _DIAGNOSTICS:
        from neuralmechanics import diagnostics

        return getattr(diagnostics, name)
    raise AttributeError(f"module 'neuralmechanics.symmetry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
