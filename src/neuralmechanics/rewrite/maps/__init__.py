"""Maps for other tools: which tensors must move together, in the formats that they read."""

from neuralmechanics.rewrite.maps.hand_written import MappingFinding, check_mappings
from neuralmechanics.rewrite.maps.permutations import PermutationSpec, permutation_spec
from neuralmechanics.rewrite.maps.places import Place, Refusal
from neuralmechanics.rewrite.maps.plain import symmetry_map
from neuralmechanics.rewrite.maps.smoothing import SmoothingMap, awq_mappings, smoothquant_mappings
from neuralmechanics.rewrite.maps.spinquant import SpinQuantMap, spinquant_mapping

__all__ = [
    "MappingFinding",
    "PermutationSpec",
    "Place",
    "Refusal",
    "SmoothingMap",
    "SpinQuantMap",
    "awq_mappings",
    "check_mappings",
    "permutation_spec",
    "smoothquant_mappings",
    "spinquant_mapping",
    "symmetry_map",
]
