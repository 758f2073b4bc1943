"""The demonstration: one small VGG with and one without batch norm, on handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neuralmechanics.experiments.config import OptimizerConfig, RecordConfig, ScheduleConfig, TrainConfig
from neuralmechanics.experiments.replacing import remove_sealed, require_replaceable
from neuralmechanics.experiments.training.loop import TrainResult, train
from neuralmechanics.progress import Meter

DEMO_MODELS = ("vgg-small", "vgg-small-bn")


def demo_config(model: str) -> TrainConfig:
    """Heavy ball with weight decay and one learning-rate drop: every term of the laws takes part."""
    return TrainConfig(
        model=model,
        data="digits",
        epochs=16,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=0.02, momentum=0.9, weight_decay=1e-3),
        schedule=ScheduleConfig("drops", milestones=(11.0,), factor=0.1),
        record=RecordConfig(every=5, residuals=True, metrics=("performance", "weights-subset"), subset=8),
    )


def run_demo_trainings(out: str | Path, meter: Meter) -> Iterator[TrainResult]:
    """Train the demo's networks one by one in `out`/<model>; `ValueError` before any where something else lies there.

    A folder that an earlier demo of this version wrote and sealed, and that nobody has touched since, is replaced.
    """
    folders = [Path(out) / model for model in DEMO_MODELS]
    for folder in folders:
        require_replaceable(folder)
    for model, folder in zip(DEMO_MODELS, folders, strict=True):
        remove_sealed(folder)
        yield train(demo_config(model), folder, meter=meter)
