"""The captured graph beside the real model."""

from neuralmechanics.symmetry.lowering.replay.comparing import Replayed, replayed
from neuralmechanics.symmetry.lowering.replay.points import is_large

__all__ = ["Replayed", "is_large", "replayed"]
