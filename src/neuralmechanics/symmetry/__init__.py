"""What leaves the loss unchanged: families of parameter symmetries, found, checked, probed and counted."""

from neuralmechanics.symmetry.as_found import EmptiedCacheWarning
from neuralmechanics.symmetry.asserting import assert_symmetric
from neuralmechanics.symmetry.balancing import balance
from neuralmechanics.symmetry.breaking import measure_breaking
from neuralmechanics.symmetry.checking import check_symmetries
from neuralmechanics.symmetry.counting import count_laws
from neuralmechanics.symmetry.family import KINDS, Breaking, Family, Kind
from neuralmechanics.symmetry.find import find_symmetries
from neuralmechanics.symmetry.law_count import LawCount
from neuralmechanics.symmetry.linting import lint
from neuralmechanics.symmetry.optimizer_flows import GradientFlow, HeavyBall, SignDescent, WeightDecay
from neuralmechanics.symmetry.probing import probe_symmetries
from neuralmechanics.symmetry.symmetries import Coverage, Symmetries, UnknownOperation
from neuralmechanics.symmetry.update_defect import update_defect

__all__ = [
    "KINDS",
    "Breaking",
    "Coverage",
    "EmptiedCacheWarning",
    "Family",
    "GradientFlow",
    "HeavyBall",
    "Kind",
    "LawCount",
    "SignDescent",
    "Symmetries",
    "UnknownOperation",
    "WeightDecay",
    "assert_symmetric",
    "balance",
    "check_symmetries",
    "count_laws",
    "find_symmetries",
    "lint",
    "measure_breaking",
    "probe_symmetries",
    "update_defect",
]
