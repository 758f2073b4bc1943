"""The model zoo."""

from neuralmechanics.experiments.models.layers import initialise_as_paper
from neuralmechanics.experiments.models.restore import restore_weights
from neuralmechanics.experiments.models.zoo import build_model, model_names

__all__ = ["build_model", "initialise_as_paper", "model_names", "restore_weights"]
