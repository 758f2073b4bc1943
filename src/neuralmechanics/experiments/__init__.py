"""The paper's experiments: data, models, training, metrics and sweeps."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmechanics.configuration.build import config_from_dict, config_to_dict, load_config
    from neuralmechanics.experiments.config import (
        ImageConfig,
        OptimizerConfig,
        RecordConfig,
        ScheduleConfig,
        TrainConfig,
    )
    from neuralmechanics.experiments.data import DataSet, data_names, data_set, load_data
    from neuralmechanics.experiments.losses import cross_entropy, mean_squared_error
    from neuralmechanics.experiments.measuring.curvature import top_eigenvalues
    from neuralmechanics.experiments.measuring.evaluation import Performance, evaluate
    from neuralmechanics.experiments.measuring.metrics import open_metrics
    from neuralmechanics.experiments.models import build_model, model_names, restore_weights
    from neuralmechanics.experiments.norm_eps import eps_errors, set_norm_eps
    from neuralmechanics.experiments.targets import resolve_model
    from neuralmechanics.experiments.training.loop import TrainResult, train
    from neuralmechanics.optimizers.lamb import Lamb
    from neuralmechanics.progress import Meter, SilentMeter

# Torch loads with the first network or training: configurations and the command line's help do without it.
_EXPORTS = {
    "config": ("ImageConfig", "OptimizerConfig", "RecordConfig", "ScheduleConfig", "TrainConfig"),
    ".configuration.build": ("config_from_dict", "config_to_dict", "load_config"),
    "measuring.curvature": ("top_eigenvalues",),
    "data": ("DataSet", "data_names", "data_set", "load_data"),
    "measuring.evaluation": ("Performance", "evaluate"),
    ".optimizers.lamb": ("Lamb",),
    "losses": ("cross_entropy", "mean_squared_error"),
    "measuring.metrics": ("open_metrics",),
    "models": ("build_model", "model_names", "restore_weights"),
    "norm_eps": ("eps_errors", "set_norm_eps"),
    "targets": ("resolve_model",),
    "training.loop": ("TrainResult", "train"),
    ".progress": ("Meter", "SilentMeter"),
}

__all__ = [
    "DataSet",
    "ImageConfig",
    "Lamb",
    "Meter",
    "OptimizerConfig",
    "Performance",
    "RecordConfig",
    "ScheduleConfig",
    "SilentMeter",
    "TrainConfig",
    "TrainResult",
    "build_model",
    "config_from_dict",
    "config_to_dict",
    "cross_entropy",
    "data_names",
    "data_set",
    "eps_errors",
    "evaluate",
    "load_config",
    "load_data",
    "mean_squared_error",
    "model_names",
    "open_metrics",
    "resolve_model",
    "restore_weights",
    "set_norm_eps",
    "top_eigenvalues",
    "train",
]


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module 'neuralmechanics.experiments' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
