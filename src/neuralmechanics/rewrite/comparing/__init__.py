"""Two checkpoints modulo everything: the symmetry that brings one to the other, and what no symmetry explains."""

from neuralmechanics.rewrite.comparing.adapters import average_adapters, canonical_adapter
from neuralmechanics.rewrite.comparing.align import Alignment, align, aligned_checkpoint, distance, interpolate
from neuralmechanics.rewrite.comparing.canonical import canonical, fingerprint
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.transport import transport
from neuralmechanics.rewrite.comparing.equivalence import Equivalence, assert_equivalent, equivalent

__all__ = [
    "Alignment",
    "Element",
    "Equivalence",
    "align",
    "aligned_checkpoint",
    "assert_equivalent",
    "average_adapters",
    "canonical",
    "canonical_adapter",
    "distance",
    "equivalent",
    "fingerprint",
    "interpolate",
    "transport",
]
