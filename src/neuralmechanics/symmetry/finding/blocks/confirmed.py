"""What relabelings say is held against numbers: where a run with exchanged experts differs, nothing is claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.spaces import Space
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.tracing import SEED
from neuralmechanics.symmetry.lowering.replay import left_unchanged

__all__ = ["confirmed"]


def confirmed(captured: Captured, spaces: Sequence[Space]) -> tuple[Space, ...]:
    """Those of the spaces whose elements leave all outputs of the graph at random parameters.

    Tried are the exchange of two channels and a random cycle of all. A model on the meta device that is too large to be
    filled with numbers is not replayed either, which a note says: as all that is claimed of it, these are claims of its
    program alone.
    """
    claims = [(s.parameters, [partial(_relabelled, s, order) for order in _orders(s.width)]) for s in spaces]
    found = left_unchanged(captured, claims)
    held = [bool(captured.replayed)] * len(spaces) if found is None else found
    return tuple(space for space, holds in zip(spaces, held, strict=True) if holds)


def _orders(width: int) -> list[Tensor]:
    drawn = torch.randperm(width, generator=torch.Generator().manual_seed(SEED))
    exchange, cycle = torch.arange(width), torch.empty(width, dtype=torch.int64)
    exchange[drawn[:2]] = drawn[:2].flip(0)
    cycle[drawn] = drawn.roll(1)
    return [exchange] if width == 2 else [exchange, cycle]


def _relabelled(space: Space, order: Tensor, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return space.transform(tensors, order)
