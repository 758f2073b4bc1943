"""Whole networks in continuous time: fields over named parameters, noise, integration, and which model is right."""

from neuralmechanics.flows.gradient_flow import GradientFlow, MomentumFlow
from neuralmechanics.flows.integrate import METHODS, integrate
from neuralmechanics.flows.map_logarithm import MapFlow
from neuralmechanics.flows.modified_flow import ModifiedFieldFlow, ModifiedFlow
from neuralmechanics.flows.modified_loss import ModifiedLoss
from neuralmechanics.flows.path import Path, StopReason
from neuralmechanics.flows.patterns import activation_pattern
from neuralmechanics.flows.principal_flow import PrincipalFlow
from neuralmechanics.flows.problem import ModuleLoss, module_loss, module_losses
from neuralmechanics.flows.schedule import Schedule
from neuralmechanics.flows.system import Flow, velocity

__all__ = [
    "METHODS",
    "Flow",
    "GradientFlow",
    "MapFlow",
    "ModifiedFieldFlow",
    "ModifiedFlow",
    "ModifiedLoss",
    "ModuleLoss",
    "MomentumFlow",
    "Path",
    "PrincipalFlow",
    "Schedule",
    "StopReason",
    "activation_pattern",
    "integrate",
    "module_loss",
    "module_losses",
    "velocity",
]
