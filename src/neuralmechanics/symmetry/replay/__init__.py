"""The captured graph beside the real model."""

from neuralmechanics.symmetry.replay.comparing import Replayed, replayed
from neuralmechanics.symmetry.replay.points import runs_on_copies

__all__ = ["Replayed", "replayed", "runs_on_copies"]
