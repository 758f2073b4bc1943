"""How charges move under a real optimiser: arithmetic on float64 tensors of shape [charges], on any device."""

from neuralmechanics.laws.budget import BUDGET_PARTS, MEASURED_PARTS, ChargeBudget, StoredStep
from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.coefficients import decay_strength
from neuralmechanics.laws.continuous.closed_forms import (
    NormalForm,
    driven_path,
    normal_form,
    oscillation_threshold,
    oscillator_path,
    relaxation_path,
)
from neuralmechanics.laws.continuous.modified_flow import ModifiedFlowLaw
from neuralmechanics.laws.continuous.relaxation import FirstOrderLaw, GradientFlowLaw, ModifiedLossLaw
from neuralmechanics.laws.equilibrium import (
    effective_learning_rate,
    equilibrium_norm,
    equilibrium_rotation,
    half_life,
    norm_after,
    relaxation_rate,
)
from neuralmechanics.laws.exact import ExactLaw
from neuralmechanics.laws.identity import IdentityLaw
from neuralmechanics.laws.replay import DriveHistory, replay
from neuralmechanics.laws.rotation import RotationLaw, rotation_defect
from neuralmechanics.laws.step import Drives, Hyperparameters, Law

__all__ = [
    "BUDGET_PARTS",
    "MEASURED_PARTS",
    "ChargeBudget",
    "ChargeLaw",
    "DriveHistory",
    "Drives",
    "ExactLaw",
    "FirstOrderLaw",
    "GradientFlowLaw",
    "Hyperparameters",
    "IdentityLaw",
    "Law",
    "ModifiedFlowLaw",
    "ModifiedLossLaw",
    "NormalForm",
    "RotationLaw",
    "StoredStep",
    "decay_strength",
    "driven_path",
    "effective_learning_rate",
    "equilibrium_norm",
    "equilibrium_rotation",
    "half_life",
    "norm_after",
    "normal_form",
    "oscillation_threshold",
    "oscillator_path",
    "relaxation_path",
    "relaxation_rate",
    "replay",
    "rotation_defect",
]
