"""Symmetries found in the graph against relations seen in gradients: both, and their difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuralmechanics.diagnostics.probing.report import ProbeReport, Relation
from neuralmechanics.symmetry.families.actions import Form
from neuralmechanics.symmetry.families.family import Family

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]

Shapes = Mapping[str, tuple[int, ...]]


def compare(found: Sequence[Family], probed: ProbeReport, shapes: Shapes) -> pd.DataFrame:
    """One row a family that was found, and one for each group of relations that only the probe saw.

    ``found`` and ``probed`` are dimensions: of the family (its diagonal part, for linear ones), and of what the probe's
    relations span of it. ``difference`` = probed - found: 0 in every row where both agree. ``exact`` is false for
    families that a constant breaks, which a probe at full precision rightly misses. ``shapes`` are those of the
    parameters. Affine families and rotations move no slice as a whole and are left out.
    """
    import pandas as pd

    rows = []
    for translation in (True, False):
        families = [f for f in found if f.charges and (f.kind == "translation") == translation]
        relations = [r for r in probed.relations if (r.kind == "translation") == translation]
        seen = _matrix([_flat(r.elements, shapes) for r in relations], shapes)
        lone = _lone(probed, shapes) if not translation else np.zeros(seen.shape[1], dtype=bool)
        spans = [_span(family, shapes) * ~lone for family in families]
        for family, span in zip(families, spans, strict=True):
            size = _rank(span)
            # dim(U ∩ V) = dim U + dim V - dim(U + V).
            common = size + _rank(seen) - _rank(np.concatenate([span, seen]))
            rows.append((family.kind, family.name, family.exact, size, common, common - size))
        claimed = np.concatenate([np.zeros((0, seen.shape[1])), *spans])
        if translation:  # elements without a gradient may have been found as scales by themselves
            loud = ~_lone(probed, shapes)
            scales = [_span(f, shapes) for f in found if f.kind == "scale"]
            claimed = np.concatenate([claimed, *(s[~s[:, loud].any(axis=1)] for s in scales)])
        rows += [(r.kind, f"only probed: {r.label}", True, 0, 1, 1) for r in _beyond(relations, claimed, shapes)]
    return pd.DataFrame(rows, columns=["kind", "family", "exact", "found", "probed", "difference"])


def _beyond(relations: Iterable[Relation], claimed: np.ndarray, shapes: Shapes) -> list[Relation]:
    """Relations that nothing found, and no earlier one of them, explains."""
    out = []
    rank = _rank(claimed)
    for relation in relations:
        grown = np.concatenate([claimed, _flat(relation.elements, shapes)[None]])
        if _rank(grown) > rank:
            out.append(relation)
            claimed, rank = grown, rank + 1
    return out


def _span(family: Family, shapes: Shapes) -> np.ndarray:
    """What each (diagonal) generator does to each element: shifts, or exponents ξ/θ at θ = 1. [generators, elements]"""
    ones = {name: torch.ones(shape, dtype=torch.float64) for name, shape in shapes.items()}
    forms: tuple[Form, ...] = ("constant", "diagonal")
    steps = [family.generator(ones, weights) for form in forms for weights in family.action.units(form)]
    rows = [_flat({name: s.numpy() for name, s in step.items()}, shapes) for step in steps]
    return _matrix(rows, shapes)


def _lone(probed: ProbeReport, shapes: Shapes) -> np.ndarray:
    """Elements without any gradient: they are translations by themselves and part of every scale."""
    single = [_flat(r.elements, shapes) for r in probed.of_kind("translation")]
    out = np.zeros(_total(shapes), dtype=bool)
    for row in single:
        if np.count_nonzero(row) == 1:
            out |= row != 0
    return out


def _flat(elements: Mapping[str, np.ndarray], shapes: Shapes) -> np.ndarray:
    pieces = [np.asarray(elements[name] if name in elements else np.zeros(shape)).reshape(-1)
              for name, shape in shapes.items()]  # fmt: skip
    return np.concatenate(pieces)


def _matrix(rows: Sequence[np.ndarray], shapes: Shapes) -> np.ndarray:
    return np.array(rows, dtype=float).reshape(-1, _total(shapes))


def _total(shapes: Shapes) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _rank(rows: np.ndarray) -> int:
    if not rows.size:
        return 0
    return int(np.linalg.matrix_rank(rows[:, np.any(rows != 0, axis=0)] if rows.any() else rows[:, :1]))
