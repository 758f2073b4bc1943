"""The captured graph beside the real model."""

from neuralmechanics.symmetry.replay.comparing import Replayed, replayed
from neuralmechanics.symmetry.replay.points import is_large

__all__ = ["Replayed", "is_large", "replayed"]
