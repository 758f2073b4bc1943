"""The captured graph beside the real model."""

from neuralmechanics.symmetry.lowering.replay.comparing import Replayed, replayed
from neuralmechanics.symmetry.lowering.replay.points import is_large
from neuralmechanics.symmetry.lowering.replay.relabelled import Change, left_unchanged

__all__ = ["Change", "Replayed", "is_large", "left_unchanged", "replayed"]
