"""Runs a configured comparison: the optimiser on one's own model against every flow that models it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.files import read_regular
from neuralmechanics.flows.comparison.compare import Comparison, compare_flows
from neuralmechanics.flows.comparison.config import FlowConfig, read_config
from neuralmechanics.flows.comparison.drift import drift_by_kind
from neuralmechanics.flows.comparison.sweep import OrderSweep, sweep_learning_rates
from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.module_loss import module_loss
from neuralmechanics.optimizers.make import make_optimizer
from neuralmechanics.progress import Meter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FlowReport", "Resolve", "run_config"]

_DATA_BYTES = 4 << 30

# Called as resolve(target, input_shape=…, classes=…, seed=…).
Resolve = Callable[..., nn.Module]


@dataclass(frozen=True)
class FlowReport:
    """What a configured comparison found."""

    config: FlowConfig
    comparison: Comparison
    sweep: OrderSweep | None
    kinds: tuple[str, ...]

    def drift(self) -> pd.DataFrame | None:
        """Flow × kind of charge → relative drift, the optimiser's own first; None without charges."""
        import pandas as pd

        if not self.kinds:
            return None
        paths = {self.comparison.optimizer.label: self.comparison.optimizer} | self.comparison.flows
        rows = {name: drift_by_kind(path, self.kinds) for name, path in paths.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("flow")

    def describe(self) -> str:
        """The tables as text."""
        optimizer = self.config.optimizer
        head = f"{self.config.model}: {self.config.steps} steps of {optimizer.name}, η = {optimizer.learning_rate:g}"
        parts = [head, _text(self.comparison.summary())]
        drift = self.drift()
        if drift is not None:
            parts.append("relative drift of charges by kind\n" + _text(drift))
        if self.sweep is not None:
            parts.append("largest distance by learning rate, and the measured order\n" + _text(self.sweep.to_frame()))
        return "\n\n".join(parts)

    def save(self, folder: str | FilePath) -> list[FilePath]:
        """The tables as CSV files in ``folder``, which is made; returns what was written."""
        target = FilePath(folder)
        target.mkdir(parents=True, exist_ok=True)
        tables = {"distances": self.comparison.to_frame(), "summary": self.comparison.summary()}
        drift = self.drift()
        if drift is not None:
            tables["drift"] = drift
        if self.sweep is not None:
            tables["sweep"] = self.sweep.to_frame()
        written = []
        for name, table in tables.items():
            written.append(target / f"{name}.csv")
            table.to_csv(written[-1])
        return written


def run_config(path: str | FilePath, resolve: Resolve, *, meter: Meter | None = None) -> FlowReport:
    """The comparison that the TOML file at ``path`` describes, for the model that ``resolve`` makes of its name.

    ``resolve(target, input_shape=…, classes=…, seed=…)`` returns the module. The model runs in float64, on the
    configured batch, with whatever mode (train or eval) it was returned in.
    """
    config = read_config(path)
    model = resolve(config.model, input_shape=config.input_shape, classes=config.classes, seed=config.seed)
    batch = _batch(config, FilePath(path).parent)
    loss_fn = partial(_loss, kind=config.loss)
    loss = module_loss(model, loss_fn, batch)
    symmetries = _symmetries(model, batch, loss_fn) if config.symmetries else None
    make = partial(_optimizer, config)
    comparison = compare_flows(
        loss,
        loss.theta0,
        optimizer=partial(make, lr=config.optimizer.learning_rate),
        steps=config.steps,
        symmetries=symmetries,
        every=config.every,
        method=config.method,
        meter=meter,
    )
    sweep = None
    if config.learning_rates:
        # Natural time a step over the rate, 1-α with dampening, is the same at every rate.
        scale = float(comparison.times[-1]) / (config.steps * config.optimizer.learning_rate)
        sweep = sweep_learning_rates(
            loss,
            loss.theta0,
            optimizer=make,
            learning_rates=config.learning_rates,
            horizon=scale * config.steps * config.learning_rates[0],
            method=config.method,
        )
    return FlowReport(config, comparison, sweep, tuple(symmetries.kinds) if symmetries is not None else ())


def _text(table: pd.DataFrame) -> str:
    return table.to_string(float_format=lambda value: f"{value:.3g}")


def _optimizer(config: FlowConfig, params: list[Tensor], *, lr: float) -> torch.optim.Optimizer:
    return make_optimizer(params, config.optimizer, learning_rate=lr)


def _loss(model: nn.Module, batch: dict[str, Tensor], kind: str) -> Tensor:
    output = model(batch["inputs"])
    output = getattr(output, "logits", output)
    if kind == "mse":
        return functional.mse_loss(output, batch["targets"].to(output.dtype))
    return functional.cross_entropy(output, batch["targets"])


def _batch(config: FlowConfig, folder: FilePath) -> dict[str, Tensor]:
    if config.data is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            batch: dict[str, Tensor] = load(read_regular(folder / config.data, _DATA_BYTES))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f"data: cannot read {str(folder / config.data)!r}: {error}") from None
        missing = {"inputs", "targets"} - set(batch)
        if missing:
            raise ValueError(f"data: {config.data!r} lacks {sorted(missing)}, expected tensors inputs and targets")
        _require_batch(config, batch["inputs"], batch["targets"])
        return batch
    generator = torch.Generator().manual_seed(config.seed)
    inputs = torch.randn(config.examples, *config.input_shape, generator=generator)
    if config.loss == "mse":
        return {"inputs": inputs, "targets": torch.randn(config.examples, config.classes, generator=generator)}
    return {"inputs": inputs, "targets": torch.randint(config.classes, (config.examples,), generator=generator)}


def _require_batch(config: FlowConfig, inputs: Tensor, targets: Tensor) -> None:
    """`ValueError` for examples that no loss can be taken of."""
    if inputs.ndim < 1 or targets.ndim < 1 or not len(inputs) or len(inputs) != len(targets):
        raise ValueError(f"data: {config.data!r} holds inputs {list(inputs.shape)} for targets {list(targets.shape)}")
    if inputs.is_complex() or not bool(torch.isfinite(inputs).all()):
        raise ValueError(f"data: {config.data!r} holds inputs that are no finite real numbers")
    if config.loss == "mse":
        return
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"data: {config.data!r} holds targets of type {targets.dtype}, cross-entropy takes classes")
    if int(targets.min()) < 0 or int(targets.max()) >= config.classes:
        raise ValueError(f"data: {config.data!r} holds a target that is none of the classes 0 to {config.classes - 1}")


def _symmetries(model: nn.Module, batch: Any, loss_fn: Callable[[Any, Any], Tensor]) -> Charges:
    from neuralmechanics.symmetry import find_symmetries

    found: Charges = find_symmetries(model, batch, loss_fn)
    return found
