"""What errors are relative to: the size of a charge at the start of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralmechanics.monitor.store.source import RunSource
from neuralmechanics.symmetry import Symmetries

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Scale:
    """The sizes of the charges, and where they were measured; `origin` is empty for the start of the run."""

    values: Vector
    origin: str


def start_scale(source: RunSource, symmetries: Symmetries) -> Scale:
    """The sizes at the start of the run; where that is damaged those at the next start, else nan: no size is known."""
    charges = len(symmetries.labels)
    for number, segment in enumerate(source.segments):
        scale = segment.start.get("scale")
        if scale is not None and len(scale) == charges:
            where = "" if number == 0 else f"step {segment.info['start_step']}, the start of segment {number}"
            return Scale(filled_scale(scale, symmetries), where)
    if not source.segments:
        return Scale(filled_scale(np.zeros(charges), symmetries), "")
    return Scale(np.full(charges, np.nan), "nowhere")


def filled_scale(scale: np.ndarray[Any, Any], symmetries: Symmetries) -> Vector:
    """The sizes of the charges with zeros filled in.

    A charge's size is Σ|d_i|θ_i² for quadratic charges (|θ_A1|² + |θ_A2|² for a rescale charge, the norm itself for a
    scale charge) and √n·|θ_A| for translations: the largest value that its parameters could have given it, so
    a difference that begins near 0 is not divided by it. Parameters that begin at exactly 0, such as biases, have no
    size of their own: their charges get the mean size in their family, else in their kind, else 1.
    """
    out: Vector = np.array(scale, dtype=np.float64)
    empty = ~(out > 0)
    for groups in (symmetries.family_names, symmetries.kinds):
        names = np.array(groups, dtype=object)
        for name in dict.fromkeys(names[empty]):
            sized = (names == name) & (scale > 0)
            if sized.any():
                out[empty & (names == name)] = scale[sized].mean()
        empty = ~(out > 0)
    out[empty] = 1.0
    return out
