"""The exact law on networks with norms: its error, and what of it the eps of the norms accounts for.

For y = (z - μ)/√(σ² + eps) and filters A in front, ⟨g, θ_A⟩ = Σ eps/(σ² + eps) · ∂L/∂y · y: a closed formula of the
activations, which the exact law takes for its residual. Source: theory, section 1 (exactness limits) and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from neuralmechanics.experiments.config import RecordConfig, TrainConfig
from neuralmechanics.experiments.training.loop import train
from neuralmechanics.experiments.training.observer import Training
from neuralmechanics.functional.norm_statistics import NormRecord, recorded_norms
from neuralmechanics.laws import Drives, ExactLaw, Hyperparameters
from neuralmechanics.optimizers import Sgd, StepWatch, Update
from neuralmechanics.symmetry import Family, Symmetries, find_symmetries

if TYPE_CHECKING:
    import pandas as pd

LAWS = ("exact", "exact + eps", "identity")


def eps_errors(config: TrainConfig, *, norm_eps: float | None = None, every: int = 10) -> pd.DataFrame:
    """Largest error of each law over charges and steps, relative to the charges at the start; one row a kind.

    Trains as `config` says (the same batches as `train`, SGD alone) and predicts all charges from the start by
    `exact` (no residual), `exact + eps` (the formula's residual, from activations alone) and `identity` (the
    residual measured in the gradients). `norm_eps` replaces the eps of every norm, `every` is the number of steps
    between comparisons. Raises `ValueError` for another optimiser than SGD.
    """
    import pandas as pd

    if config.optimizer.name != "sgd":
        raise ValueError(f"optimizer.name must be 'sgd', which the exact law holds for, got {config.optimizer.name!r}")
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    onlooker = _Onlooker(norm_eps, every)
    train(replace(config, device="cpu", record=RecordConfig(enabled=False, metrics=())), observer=onlooker)
    race, rows = onlooker.race, []
    for kind in dict.fromkeys(race.symmetries.kinds):
        mine = torch.tensor([other == kind for other in race.symmetries.kinds])
        errors = {law: float(race.worst[law][mine].max()) for law in LAWS}
        rows.append({"kind": kind, "charges": int(mine.sum())} | errors)
    return pd.DataFrame(rows)


def set_norm_eps(model: nn.Module, eps: float) -> int:
    """Replaces the eps of every norm module of the model, in place; the number of norms."""
    if not eps > 0:  # torch refuses zero in training
        raise ValueError(f"the eps of a norm must be positive, got {eps}; 1e-12 is as good as none in float64")
    norms = [module for module in model.modules() if "Norm" in type(module).__name__ and hasattr(module, "eps")]
    for norm in norms:
        norm.eps = eps  # type: ignore[assignment]
    return len(norms)


class EpsResidual:
    """⟨g, ξ⟩ of every charge as the eps of its norms makes it: 0 where no eps reaches, nan where no formula does."""

    def __init__(self, symmetries: Sequence[Family], records: dict[str, NormRecord]) -> None:
        self._families = tuple(symmetries)
        self._records = records

    def take(self) -> Float64[Tensor, " charges"]:
        """The residual of the backward passes since the last call."""
        parts = [self._of(family) for family in self._families]
        for record in self._records.values():
            record.share.clear()
            record.pull = None
        return torch.cat(parts)

    def _of(self, family: Family) -> Float64[Tensor, " charges"]:
        total = torch.zeros(family.charges, dtype=torch.float64)
        for cause in family.broken_by:
            record = self._records.get(cause.where)
            if cause.constant != "eps" or record is None or record.pull is None:
                return torch.full_like(total, torch.nan)
            pull = record.pull.cpu()
            # A charge of a whole layer takes all channels, one of a channel its own; else nothing can be told.
            if family.charges == 1:
                total += pull.sum()
            elif len(pull) == family.charges:
                total += pull
            else:
                return torch.full_like(total, torch.nan)
        return total


@contextmanager
def eps_residual(model: nn.Module, symmetries: Sequence[Family]) -> Iterator[EpsResidual]:
    """Watches the norms of a model in training, to give the formula's residual after each backward pass."""
    with recorded_norms(model, (cause.where for family in symmetries for cause in family.broken_by)) as records:
        yield EpsResidual(symmetries, records)


class _Onlooker:
    """The laws beside a training, held against its charges every so many steps and at its end."""

    def __init__(self, norm_eps: float | None, every: int) -> None:
        self._norm_eps, self._every = norm_eps, every
        self._race: _Race | None = None

    @property
    def race(self) -> _Race:
        """The race, once the training has begun."""
        assert self._race is not None
        return self._race

    @contextmanager
    def watch(self, training: Training) -> Iterator[None]:
        """Every law starts at the charges of the model before its first step."""
        if self._norm_eps is not None:
            set_norm_eps(training.model, self._norm_eps)
        batch = training.batches.probe(min(training.config.batch_size, 32))
        symmetries = find_symmetries(training.model, batch, training.loss)
        with eps_residual(training.model, symmetries) as formula:
            self._race = _Race(training, symmetries, formula)
            yield
            self._race.compare()

    def before(self, step: int) -> None:
        """What the formula says of the backward pass, and the parameters as they are."""
        self.race.before_step()

    def after(self, step: int) -> None:
        """One step of every law."""
        self.race.after_step()
        if step % self._every == 0:
            self.race.compare()


class _Race:
    """The laws of `LAWS` in progress, and how far each has been from the charges."""

    def __init__(self, training: Training, symmetries: Symmetries, formula: EpsResidual) -> None:
        named = dict(training.model.named_parameters())
        self.symmetries = symmetries
        self._params = {name: named[name] for name in symmetries.parameters}
        # The update as it was stored: what the laws are held against are charges of stored parameters.
        self._steps = StepWatch(training.optimizer, self._params, exact_update=True)
        self._formula = formula
        self._by_formula = torch.zeros(0)
        self._size = symmetries.charge_scale(_values(self._params))
        self._laws = {law: ExactLaw(symmetries.quadratic, measured_residual=law != "exact") for law in LAWS}
        for law in self._laws.values():
            law.start(symmetries.charge(_values(self._params)))
        self.worst = {law: torch.zeros_like(self._size) for law in LAWS}

    def before_step(self) -> None:
        """To be called between the backward pass and the update."""
        # Taken before the update: the formula is of the activations that made this gradient.
        self._by_formula = self._formula.take()
        self._steps.before_step()

    def after_step(self) -> None:
        """Every law's step, with what it may know of the update."""
        updates = dict(self._steps.updates())
        self._steps.finish()
        # The optimiser has one parameter group, so that any update tells the setting of all.
        made = next(update for update in updates.values() if update is not None)
        hyper = {field.name: getattr(made.setting, field.name) for field in fields(Sgd)}
        used = Hyperparameters(**hyper, first_step=made.first_step)
        change, slopes = self._of(updates, lambda u: u.difference), self._of(updates, lambda u: u.gradient)
        before, pair = self._of(updates, Update.before), self.symmetries.pair
        velocity = pair(change, self._of(updates, lambda u: u.velocity)) if used.nesterov else None
        energy, measured = pair(change, change), pair(slopes, before)
        for law, residual in zip(LAWS, (None, self._by_formula, measured), strict=True):
            self._laws[law].step(used, Drives(energy, velocity, residual))

    def _of(self, updates: Mapping[str, Update | None], read: Callable[[Update], Tensor | None]) -> dict[str, Tensor]:
        """What is read of every update, 0 where there is none."""
        found = {name: None if update is None else read(update) for name, update in updates.items()}
        return {name: torch.zeros_like(self._params[name]) if t is None else t for name, t in found.items()}

    def compare(self) -> None:
        """Hold every law against the charges now."""
        charge = self.symmetries.charge(_values(self._params))
        for law, predicted in self._laws.items():
            self.worst[law] = torch.maximum(self.worst[law], (predicted.value - charge).abs() / self._size)


def _values(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in params.items()}
