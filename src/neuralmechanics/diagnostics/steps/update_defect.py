"""How far an optimiser's step is from the geometry of the symmetries.

Two independent questions, asked of each family of symmetries:

- *constraint*: gradients obey ⟨g, ξ⟩ = 0, so plain gradient descent moves across the orbits only. How large is the part
  of the real step d along the orbit, |⟨d, ξ⟩| / (|d| |ξ|), on the parameters that ξ moves?
- *equivariance*: does the step commute with the finite transformation ψ, S(ψθ) = ψ(Sθ)? Where it does, all points of an
  orbit train alike; where it does not, the optimiser sees differences that the loss does not.

Gradient descent keeps all constraints and commutes with translations and rotations (ψ an isometry), not with scalings.
Adam and sign steps keep no constraint and commute with translations only; orthogonalised steps commute with rotations.

Source of the constraint: Kunin et al. 2021, section 3; of equivariance: theory section 1 (finite ψ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.steps.optimizer_path import OptimizerFactory, StepFunction, optimizer_path
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.function_module import PlainFunction, as_module

if TYPE_CHECKING:
    import pandas as pd

    from neuralmechanics.symmetry.families.family import Family

__all__ = ["FamilyDefect", "UpdateDefect", "update_defect"]


@dataclass(frozen=True)
class FamilyDefect:
    """Defects of one family under one transformation; all are relative, 0 to rounding where the property holds.

    ``constraint``: greatest |cos| between a step and a generator, over generators and steps; ``constraint_rms``: their
    root mean square; ``share``: greatest |⟨d, ξ⟩| / |ξ| as a part of the whole step of all parameters (small where a
    large cosine belongs to a step of rounding size, as of Adam on a bias before a norm).
    ``first_step``: |S(ψθ) - ψ(Sθ)| / |ψ(Sθ) - ψθ| after one step; ``path``: the same after all.
    """

    family: str
    kind: str
    transformation: str
    constraint: float
    constraint_rms: float
    share: float
    first_step: float
    path: float


@dataclass(frozen=True)
class UpdateDefect:
    """The defects of an optimiser, one row a family and transformation."""

    rows: tuple[FamilyDefect, ...]
    steps: int

    def of_kind(self, kind: str) -> tuple[FamilyDefect, ...]:
        """The rows of one kind of symmetry."""
        return tuple(row for row in self.rows if row.kind == kind)

    @property
    def constraint(self) -> float:
        """Greatest constraint defect of all families."""
        return max((row.constraint for row in self.rows), default=0.0)

    @property
    def equivariance(self) -> float:
        """Greatest equivariance defect of a first step."""
        return max((row.first_step for row in self.rows), default=0.0)

    def to_frame(self) -> pd.DataFrame:
        """One row a family and transformation."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows], columns=list(FamilyDefect.__dataclass_fields__))

    def __repr__(self) -> str:
        if not self.rows:
            return "UpdateDefect: no symmetry to test"
        head = ("family", "kind", "transformation", "constraint", "rms", "share", "first step", "path")
        body = [
            (r.family, r.kind, r.transformation, *map("{:.1e}".format, numbers))
            for r in self.rows
            for numbers in [(r.constraint, r.constraint_rms, r.share, r.first_step, r.path)]
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        lines = ("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) for line in (head, *body))
        return "\n".join(line.rstrip() for line in lines)


def update_defect(
    optimizer: OptimizerFactory | StepFunction,
    model: nn.Module | PlainFunction,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    symmetries: Sequence[Family],
    *,
    amount: float = 0.3,
    seed: int = 0,
    params: Mapping[str, Tensor] | None = None,
) -> UpdateDefect:
    """Constraint and equivariance defects of an optimiser over one step a batch, from an empty state, in float64.

    ``optimizer`` is a factory ``parameters -> torch.optim.Optimizer`` or a step function ``(parameters, gradients,
    state) -> updates`` on dicts by name. ``amount`` sets the size of the finite transformations (logarithm of factors,
    shifts, angles). The model is copied, never changed. Costs two passes a batch for the optimiser itself and two for
    each family (four for a linear one). A plain function ``model(params, batch)`` comes with its named tensors as
    ``params``.

    Raises ValueError where ``batches`` is empty or the loss is no scalar, TypeError for another kind of ``optimizer``.
    """
    if not len(batches):
        raise ValueError("batches is empty; pass at least one batch, several to see the effect of momentum")
    model = as_module(model, params)
    with left_as_found(model, loss_fn, batches):
        rows = list(_rows(optimizer, model, loss_fn, batches, symmetries, amount, seed))
    return UpdateDefect(tuple(rows), len(batches))


def _rows(
    optimizer: OptimizerFactory | StepFunction,
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    symmetries: Sequence[Family],
    amount: float,
    seed: int,
) -> Iterator[FamilyDefect]:
    generator = torch.Generator().manual_seed(seed)
    path = optimizer_path(optimizer, model, loss_fn, batches, seed=seed)
    for family in symmetries:
        pairs = [pair for k in range(len(batches)) for pair in _cosines(family, path[k], path[k + 1])]
        cosines, shares = torch.tensor(pairs, dtype=torch.float64).T
        worst, mean, share = float(cosines.max()), float(cosines.square().mean().sqrt()), float(shares.max())
        for name, a in family.action.random_elements(amount, generator):
            # ψ of the whole path: where the optimiser commutes with ψ it is the path from ψθ_0.
            moved = [family.transform(params, a) for params in path]
            twin = optimizer_path(optimizer, model, loss_fn, batches, moved[0], seed)
            first, last = (_distance(family, twin[k], moved[k], moved[0]) for k in (1, len(batches)))
            yield FamilyDefect(family.name, family.kind, name, worst, mean, share, first, last)


def _cosines(
    family: Family, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> Iterator[tuple[float, float]]:
    """|⟨d, ξ⟩| / (|d| |ξ|) of every generator, with d on the elements that ξ moves, and with all of d; 0 at rest."""
    whole = _norm({name: after[name] - before[name] for name in before})
    for _, weights in family.units():
        xi = family.generator(before, weights)
        steps = {name: torch.where(x != 0, after[name] - before[name], 0.0) for name, x in xi.items()}
        along = abs(sum(float((steps[name] * x).sum()) for name, x in xi.items()))
        size, length = _norm(steps), _norm(xi)
        yield (along / (size * length), along / (whole * length)) if size * length > 0 else (0.0, 0.0)


def _distance(
    family: Family, twin: Mapping[str, Tensor], moved: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> float:
    names = family.parameters
    apart = _norm({n: twin[n] - moved[n] for n in names})
    way = _norm({n: moved[n] - start[n] for n in names})
    return apart / way if way > 0 else 0.0


def _norm(named: Mapping[str, Tensor]) -> float:
    return float(torch.stack([x.double().square().sum() for x in named.values()]).sum().sqrt())
