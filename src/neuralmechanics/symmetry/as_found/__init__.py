"""A model is left as it was found: what a run changes is put back."""

from neuralmechanics.symmetry.as_found.copying import double_copy, plain_module
from neuralmechanics.symmetry.as_found.found import EmptiedCacheWarning, RunState, left_as_found

__all__ = ["EmptiedCacheWarning", "RunState", "double_copy", "left_as_found", "plain_module"]
