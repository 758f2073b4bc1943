"""Places in parameter space drawn anew, and moves from one place to the next."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.linear_pieces import uncorrelated_signs
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.functional.inputs import resample

__all__ = ["drawn", "fresh_place", "loosened", "redrawn"]

# Inputs that a step towards uncorrelated signs looks at.
_LOOKED_AT = 192


def fresh_place(potentials: Potentials) -> Float64[Tensor, " D"]:
    """θ drawn anew; of networks with kinks then moved so that units are on and off independently of each other."""
    theta = drawn(potentials, potentials.generator)
    if not potentials.kinked:
        return theta

    def draw(at: Tensor) -> Tensor:
        return potentials.read_at_kinks(at, resample(potentials.batch, potentials.generator, _LOOKED_AT))

    return uncorrelated_signs(theta, draw, potentials.generator)


def redrawn(potentials: Potentials, like: Float64[Tensor, " D"], share: float) -> Float64[Tensor, " D"]:
    """``like`` with that share of the rows of all tensors, or of half of them, drawn anew."""
    # moves of all tensors and of some: the former mend what takes two layers, the latter leave the rest in peace
    whole = _chance(potentials) < 0.5
    parts = []
    for old, new, rows in zip(
        potentials.split(like),
        potentials.split(drawn(potentials, potentials.generator)),
        _rows(potentials),
        strict=True,
    ):
        odds = share if whole or _chance(potentials) < 0.5 else 0.0
        keep = torch.rand(rows, 1, generator=potentials.generator, dtype=torch.float64) >= odds
        parts.append(torch.where(keep, old.reshape(rows, -1), new.reshape(rows, -1)).reshape(-1))
    return torch.cat(parts)


def loosened(
    potentials: Potentials, like: Float64[Tensor, " D"], loose: Float64[Tensor, " D"]
) -> Float64[Tensor, " D"]:
    """``like`` with one to three rows drawn anew, or moved by half as much, mostly where gradients miss directions.

    ``loose`` is the squared length of every axis outside the span of the gradients. Of a row of weights a rescaling
    takes less than 1 in sum; more tells of a unit that too few inputs switch.
    """
    counts = _rows(potentials)
    sums = [part.reshape(rows, -1).sum(1) for part, rows in zip(potentials.split(loose), counts, strict=True)]
    odds = (torch.cat(sums) - 0.7).clamp_min(0.0) + 0.01
    moved = min(len(odds), 1 + int(3 * _chance(potentials)))
    chosen = torch.zeros(len(odds), dtype=torch.bool)
    chosen[torch.multinomial(odds, moved, generator=potentials.generator)] = True
    widths = torch.tensor([size // n for size, n in zip(potentials.sizes, counts, strict=True) for _ in range(n)])
    new = drawn(potentials, potentials.generator)
    if _chance(potentials) < 0.5:
        new = like + 0.5 * new
    return torch.where(torch.repeat_interleave(chosen, widths), new, like)


def drawn(potentials: Potentials, generator: torch.Generator) -> Float64[Tensor, " D"]:
    """Rows of matrices normal of variance 1/fan-in with most of their mean taken out; vectors 0.4 of a normal away.

    A unit that reads rectified inputs through weights of one sign is always on or always off, which is no generic
    place. Vectors start from the model's values.
    """
    parts = []
    for shape, value in zip(potentials.shapes, potentials.split(potentials.origin), strict=True):
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1 and noise.numel():
            rows = noise.reshape(shape[0], -1)
            parts.append(((rows - 0.8 * rows.mean(1, keepdim=True)) / math.sqrt(rows.shape[1])).reshape(-1))
        else:
            parts.append(value + 0.4 * noise.reshape(-1))
    return torch.cat(parts)


def _rows(potentials: Potentials) -> list[int]:
    return [shape[0] if shape else 1 for shape in potentials.shapes]


def _chance(potentials: Potentials) -> float:
    return float(torch.rand((), generator=potentials.generator))
