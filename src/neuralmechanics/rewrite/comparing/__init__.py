"""Two checkpoints modulo everything: the symmetry that brings one to the other, and what no symmetry explains."""

from neuralmechanics.rewrite.comparing.element import Element
from neuralmechanics.rewrite.comparing.equivalence import Equivalence, assert_equivalent, equivalent

__all__ = ["Element", "Equivalence", "assert_equivalent", "equivalent"]
