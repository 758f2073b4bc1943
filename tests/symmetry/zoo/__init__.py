"""Hand-picked small networks, one for each awkward thing that people train."""

from . import attention, dense, language, recurrent, vision
from .registry import SMALL

__all__ = ["SMALL", "attention", "dense", "language", "recurrent", "vision"]
