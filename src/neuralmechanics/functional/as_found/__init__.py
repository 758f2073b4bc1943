"""A model is left as it was found: what a run changes is put back."""

from neuralmechanics.functional.as_found.copying import double_copy, plain_module
from neuralmechanics.functional.as_found.found import EmptiedCacheWarning, RunState, left_as_found
from neuralmechanics.functional.as_found.randomness import kept_randomness
from neuralmechanics.functional.as_found.reach import require_built

__all__ = [
    "EmptiedCacheWarning",
    "RunState",
    "double_copy",
    "kept_randomness",
    "left_as_found",
    "plain_module",
    "require_built",
]
