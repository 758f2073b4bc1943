"""Norms of activations and of weights, in the forms whose every symmetry is one of the kinds."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations

from .registry import small

_ROWS = (96, 4)


@small("rms-norm-without-gain", _ROWS)
def rms_norm_without_gain() -> nn.Module:
    """All rotations of the stream between the first map and the second are symmetries."""
    return nn.Sequential(
        nn.Linear(4, 5), nn.RMSNorm(5, elementwise_affine=False, eps=1e-20), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)
    )


@small("weight-norm-of-readers-of-data", _ROWS)
def weight_norm_of_readers_of_data() -> nn.Module:
    """What the normalised weights read has no symmetry that would have to pass through g·v/|v|."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 3))
