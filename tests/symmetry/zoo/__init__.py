"""Hand-picked networks: small ones for the oracle, whole architectures for the finite transformations."""

from . import (
    architectures,
    attention,
    caches,
    configurations,
    dense,
    experts,
    gains,
    language,
    masked,
    moved,
    norms,
    pairs,
    recurrent,
    refusals,
    rotations,
    routing,
    sequences,
    tables,
    vision,
)
from .architectures import FULL
from .registry import SMALL

__all__ = [
    "FULL",
    "SMALL",
    "architectures",
    "attention",
    "caches",
    "configurations",
    "dense",
    "experts",
    "gains",
    "language",
    "masked",
    "moved",
    "norms",
    "pairs",
    "recurrent",
    "refusals",
    "rotations",
    "routing",
    "sequences",
    "tables",
    "vision",
]
