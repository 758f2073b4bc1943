"""How much the constants that break symmetries matter at given parameters: gradient residuals and what predicts them.

For y = (z - μ)/√(σ² + eps) and a scale family A in front of it, ⟨g, θ_A⟩ = eps/(σ² + eps) · Σ ∂L/∂y · y, to be summed
over statistics (channels of a batch norm, rows of a layer norm). Source: theory, section 1, exactness limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.as_found import plain_module
from neuralmechanics.functional.derivatives.gradients import gradients_once
from neuralmechanics.functional.norm_statistics import NormRecord, recorded_norms
from neuralmechanics.symmetry.families.family import Breaking, Family

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MeasuredBreaking", "measure_breaking", "measured_breakings"]


@dataclass(frozen=True)
class MeasuredBreaking:
    """One constant in one family, at the parameters and batch of the measurement.

    ``share``: greatest eps/(σ² + eps) of the norm (nan for other constants); ``residual``: greatest |⟨g, ξ⟩| / Σ|g ξ|
    over the family's charges, 0 where exact, 1 where nothing cancels; ``predicted``: the same from the norm formula,
    all constants of the family together (nan where one has no formula); ``contribution``: of this constant alone.
    """

    family: str
    kind: str
    constant: str
    value: float
    where: str
    share: float
    residual: float
    predicted: float
    contribution: float


def measure_breaking(symmetries: Sequence[Family], model: nn.Module, loss_fn: Any, batch: Any) -> pd.DataFrame:
    """One row for each constant that breaks a family: its size at the present parameters, measured and predicted.

    One forward and backward pass in the model's dtype: residuals below its rounding (1e-7 in float32) are noise, use
    ``model.double()`` to see smaller ones. Nothing in the model changes. The prediction takes the norm's input as of
    first degree in the family, true but for powers in between.
    """
    import pandas as pd

    rows = measured_breakings(symmetries, model, loss_fn, batch)
    return pd.DataFrame([asdict(row) for row in rows], columns=list(MeasuredBreaking.__dataclass_fields__))


def measured_breakings(
    symmetries: Sequence[Family],
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    batch: Any,
) -> tuple[MeasuredBreaking, ...]:
    """The rows of ``measure_breaking``."""
    model = plain_module(model)
    broken = [f for f in symmetries if f.broken_by and f.quadratic and f.charges]
    if not broken:
        return ()
    with recorded_norms(model, (b.where for f in broken for b in f.broken_by)) as records:
        params, gradients = gradients_once(model, loss_fn, batch)
    return tuple(row for family in broken for row in _rows(family, params, gradients, records))


def _rows(
    family: Family, params: Mapping[str, Tensor], gradients: Mapping[str, Tensor], records: Mapping[str, NormRecord]
) -> list[MeasuredBreaking]:
    # Σ |g ξ| of every charge, before anything cancels
    size = family.action.scale(gradients, family.action.point(params))
    residual = _greatest(family.residual(gradients, params), size)
    pulls = [_pull(family, b, records.get(b.where)) for b in family.broken_by]
    known = [pull for pull in pulls if pull is not None]
    total = torch.stack(known).sum(0) if len(known) == len(pulls) else None
    rows = []
    for cause, pull in zip(family.broken_by, pulls, strict=True):
        record = records.get(cause.where)
        rows.append(
            MeasuredBreaking(
                family=family.name,
                kind=family.kind,
                constant=cause.constant,
                value=cause.value,
                where=cause.where,
                share=float(max(s.max() for s in record.share)) if record and record.share else math.nan,
                residual=residual,
                predicted=math.nan if total is None else _greatest(total, size),
                contribution=math.nan if pull is None else _greatest(pull, size),
            )
        )
    return rows


def _greatest(values: Tensor, size: Tensor) -> float:
    return float(torch.where(size > 0, values.abs() / size, 0.0).max())


def _pull(family: Family, cause: Breaking, record: NormRecord | None) -> Tensor | None:
    """The predicted ⟨g, ξ⟩ of every charge, where the norm's statistics and the charges can be matched."""
    if record is None or record.pull is None or cause.constant != "eps":
        return None
    pull = record.pull
    if family.charges == 1:
        return pull.sum().reshape(1)
    # Matched by number alone: where the two differ, nothing is predicted rather than something wrong.
    return pull if len(pull) == family.charges else None
