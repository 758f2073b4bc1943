"""What defines one training: frozen values, checked when they are made, the same from TOML, flags or Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from neuralmechanics.configuration.build import require_types
from neuralmechanics.configuration.former_names import todays_word
from neuralmechanics.optimizers.hyperparameters.config import OptimizerConfig

__all__ = ["LOSSES", "METRICS", "ImageConfig", "OptimizerConfig", "RecordConfig", "ScheduleConfig", "TrainConfig"]

ScheduleName = Literal["constant", "drops", "cosine", "linear", "double-batch", "linear-scaling", "halve"]
Precision = Literal["float32", "float64", "bfloat16"]


# How the family is called that is the sum of another one's charges, behind the name of that one.
SUM = " (sum)"
# The file that a training leaves when it is finished.
RESULT = "result.json"
# The course of a training is walked before it starts.
_MOST_EPOCHS = 1_000_000
_MOST_PIXELS = 4096


def _require(holds: bool, name: str, value: object, bound: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {bound}, got {value!r}")


@dataclass(frozen=True)
class ScheduleConfig:
    """How learning rate, momentum and batch size move during training (see `schedule.py`)."""

    name: ScheduleName = "constant"
    """constant, drops, cosine, linear, or an annealing of the paper: double-batch, linear-scaling, halve"""
    milestones: tuple[float, ...] = ()
    """where drops and annealings happen, in `unit`"""
    factor: float = 0.1
    """learning rate multiplier at each drop; for cosine and linear the final multiplier"""
    warmup: float = 0.0
    """length of a linear warm-up from zero, in `unit`"""
    unit: Literal["epoch", "step"] = "epoch"
    """unit of milestones and warmup"""

    def __post_init__(self) -> None:
        require_types(self, "schedule.")
        _require(isfinite(self.factor) and self.factor >= 0, "schedule.factor", self.factor, "zero or positive")
        _require(isfinite(self.warmup) and self.warmup >= 0, "schedule.warmup", self.warmup, "zero or positive")
        finite = all(isfinite(milestone) for milestone in self.milestones)
        _require(finite, "schedule.milestones", self.milestones, "finite numbers")
        rising = list(self.milestones) == sorted(set(self.milestones)) and all(m >= 0 for m in self.milestones)
        _require(rising, "schedule.milestones", self.milestones, "rising and not negative")
        if self.name in ("drops", "double-batch", "linear-scaling", "halve") and not self.milestones:
            raise ValueError(f"schedule.name = {self.name!r} needs schedule.milestones, for instance [30, 60]")
        if self.name in ("constant", "cosine", "linear") and self.milestones:
            raise ValueError(f"schedule.milestones has no effect with schedule.name = {self.name!r}; use 'drops'")


@dataclass(frozen=True)
class ImageConfig:
    """Where images lie and what happens to them on the way to the network."""

    root: str | None = None
    """folder with a local copy; without it $NEURALMECHANICS_DATA/<data>, else the Hugging Face cache"""
    size: int | None = None
    """side length in pixels; None keeps the usual one of the data set"""
    augment: bool = False
    """random crop with padding 4 and horizontal flip, drawn from the seed"""
    train_limit: int | None = None
    """use only so many training examples: the first, or, where they lie by class, as many of every class"""
    test_limit: int | None = None
    """use only so many test examples, likewise"""

    def __post_init__(self) -> None:
        require_types(self, "images.")
        for name in ("size", "train_limit", "test_limit"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"images.{name}", value, "positive")
        _require(self.size is None or self.size <= _MOST_PIXELS, "images.size", self.size, f"at most {_MOST_PIXELS}")


@dataclass(frozen=True)
class RecordConfig:
    """What the monitor and the metrics write."""

    enabled: bool = True
    """attach a monitor at all"""
    every: int = 10
    """steps from one record to the next"""
    charges: int | None = None
    """record so many charges of each family, evenly spread, and their sum; None: all"""
    residuals: bool = False
    """measure the symmetry residual at every step, not at records only"""
    metrics: tuple[str, ...] = ("performance",)
    """extra metrics: performance, gradient-norm, weights-subset, phase-space, weights, gradients, hessian"""
    subset: int = 64
    """how many elements of each tensor weights-subset and phase-space keep"""
    eigenvalues: int = 3
    """how many Hessian eigenvalues the metric hessian computes"""

    def __post_init__(self) -> None:
        require_types(self, "record.")
        _require(self.every >= 1, "record.every", self.every, "at least 1")
        _require(self.charges is None or self.charges >= 1, "record.charges", self.charges, "at least 1")
        _require(self.subset >= 1, "record.subset", self.subset, "at least 1")
        _require(self.eigenvalues >= 1, "record.eigenvalues", self.eigenvalues, "at least 1")
        known = METRICS
        for metric in self.metrics:
            _require(metric in known, "record.metrics", metric, f"one of {', '.join(known)}")


LOSSES = ("cross-entropy", "mse")
METRICS = (
    "performance",
    "gradient-norm",
    "weights-subset",
    "phase-space",
    "weights",
    "gradients",
    "hessian",
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run: model, data, optimiser, length, and what is recorded."""

    model: str = "mlp"
    """a zoo name (mlp, convnet-bn, vgg16 …), package.module:factory, or hf:<transformers config>"""
    data: str = "digits"
    """data set name, or package.module:factory of examples of your own"""
    epochs: float = 10.0
    """passes over the training data"""
    steps: int | None = None
    """optimiser steps; if given, it decides the length in place of epochs"""
    batch_size: int = 128
    """examples in one step"""
    loss: str = "cross-entropy"
    """training loss: cross-entropy, mse (numbers, or one-hot classes), or package.module:function of (model, batch)"""
    seed: int = 0
    """of weights, order, augmentation and dropout"""
    device: str = "auto"
    """auto takes CUDA when there is one"""
    precision: Precision = "float32"
    """float32, float64, or bfloat16 (autocast over float32 weights)"""
    initialisation: Literal["default", "paper"] = "default"
    """paper: Kaiming normal fan-out convolutions, N(0, 0.01) linear maps, zero biases"""
    restore: str | None = None
    """safetensors or weights-only checkpoint to start from"""
    checkpoint_every: int | None = None
    """steps between checkpoints, a multiple of record.every; None: none but the final one"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    images: ImageConfig = field(default_factory=ImageConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        require_types(self)
        object.__setattr__(self, "loss", todays_word(self.loss, ("loss",)))
        known = self.loss in LOSSES or ":" in self.loss
        _require(known, "loss", self.loss, f"one of {', '.join(LOSSES)}, or package.module:function")
        _require(self.epochs > 0, "epochs", self.epochs, "positive")
        _require(self.epochs <= _MOST_EPOCHS, "epochs", self.epochs, f"at most {_MOST_EPOCHS}")
        _require(self.steps is None or self.steps > 0, "steps", self.steps, "positive")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.seed >= 0, "seed", self.seed, "zero or positive")
        every = self.checkpoint_every
        _require(every is None or every >= 1, "checkpoint_every", every, "at least 1")
        if every is not None and self.record.enabled:
            # A monitor continues a run where a record has the very charges of the resumed parameters.
            records = self.record.every
            _require(every % records == 0, "checkpoint_every", every, f"a multiple of record.every = {records}")
