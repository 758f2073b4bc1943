"""The exact law on networks with norms: its error, and what of it the eps of the norms accounts for.

For y = (z - μ)/√(σ² + eps) and filters A in front, ⟨g, θ_A⟩ = Σ eps/(σ² + eps) · ∂L/∂y · y: a closed formula of the
activations, which the exact law takes for its residual. Source: theory, section 1 (exactness limits) and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.experiments.data import Batches, Position, load_data
from neuralmechanics.experiments.seeds import stream_seed
from neuralmechanics.experiments.targets import resolve_model
from neuralmechanics.experiments.training.losses import loss_function
from neuralmechanics.experiments.training.plan import Plan
from neuralmechanics.functional.norm_statistics import NormRecord, recorded_norms
from neuralmechanics.laws import Drives, ExactLaw, Hyperparameters
from neuralmechanics.optimizers.make import make_optimizer
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.seed, "training"))
        symmetries, worst = _followed(config, norm_eps, every)
    rows = []
    for kind in dict.fromkeys(symmetries.kinds):
        mine = torch.tensor([other == kind for other in symmetries.kinds])
        errors = {law: float(worst[law][mine].max()) for law in LAWS}
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


def _followed(config: TrainConfig, norm_eps: float | None, every: int) -> tuple[Symmetries, dict[str, Tensor]]:
    """The training of `config`, and the largest relative error of each law at every charge."""
    data = load_data(config.data, config.images)
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    batches = Batches(data, seed=config.seed, augment=config.images.augment, device=torch.device("cpu"), dtype=dtype)
    model = resolve_model(
        config.model,
        input_shape=data.input_shape,
        classes=data.classes,
        seed=config.seed,
        initialisation=config.initialisation,
        restore=config.restore,
    ).to(dtype)
    if norm_eps is not None:
        set_norm_eps(model, norm_eps)
    loss_of, plan = loss_function(config.loss), Plan(config, len(data.train))
    optimizer = make_optimizer(model.parameters(), config.optimizer)
    symmetries = find_symmetries(model, batches.probe(min(config.batch_size, 32)), loss_of)
    params = {name: p for name, p in model.named_parameters() if name in symmetries.parameters}
    race, position = _Race(symmetries, params), Position()
    with eps_residual(model, symmetries) as formula:
        while not plan.ended(position):
            hyper = plan.hyper(position)
            for group in optimizer.param_groups:
                group["lr"], group["momentum"] = hyper.learning_rate, hyper.momentum
            used = Hyperparameters(
                hyper.learning_rate,
                config.optimizer.weight_decay,
                hyper.momentum,
                config.optimizer.dampening,
                nesterov=config.optimizer.nesterov,
                first_step=position.step == 0,
            )
            batch, position = batches.take(position, hyper.batch_size)
            optimizer.zero_grad()
            loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
            race.step(optimizer, used, formula.take())
            if position.step % every == 0 or plan.ended(position):
                race.compare()
    return symmetries, race.worst


class _Race:
    """The laws of `LAWS` in progress, and how far each has been from the charges."""

    def __init__(self, symmetries: Symmetries, params: Mapping[str, Tensor]) -> None:
        self._symmetries = symmetries
        self._params = params
        self._size = symmetries.charge_scale(_values(params))
        self._laws = {law: ExactLaw(symmetries.quadratic, measured_residual=law != "exact") for law in LAWS}
        for law in self._laws.values():
            law.start(symmetries.charge(_values(params)))
        self.worst = {law: torch.zeros_like(self._size) for law in LAWS}

    def step(self, optimizer: torch.optim.Optimizer, used: Hyperparameters, formula: Tensor) -> None:
        """One optimiser step, and of every law with what it may know."""
        before = {name: p.clone() for name, p in _values(self._params).items()}
        gradients = {name: p.grad.clone() for name, p in self._params.items() if p.grad is not None}
        optimizer.step()
        update = {name: p - before[name] for name, p in _values(self._params).items()}
        velocity = None
        if used.nesterov:
            buffers = {name: optimizer.state[p]["momentum_buffer"] for name, p in self._params.items()}
            velocity = self._symmetries.pair(update, buffers)
        energy, measured = self._symmetries.pair(update, update), self._symmetries.pair(gradients, before)
        for law, residual in zip(LAWS, (None, formula, measured), strict=True):
            self._laws[law].step(used, Drives(energy, velocity, residual))

    def compare(self) -> None:
        """Hold every law against the charges now."""
        charge = self._symmetries.charge(_values(self._params))
        for law, predicted in self._laws.items():
            self.worst[law] = torch.maximum(self.worst[law], (predicted.value - charge).abs() / self._size)


def _values(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in params.items()}
