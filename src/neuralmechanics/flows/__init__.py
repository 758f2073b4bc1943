"""Whole networks in continuous time: fields over named parameters, noise, integration, and which model is right."""

from neuralmechanics.flows.comparison.balance import balance_rate, noise_along_generators
from neuralmechanics.flows.comparison.compare import Comparison, compare_flows
from neuralmechanics.flows.comparison.config import FlowConfig, read_config
from neuralmechanics.flows.comparison.drift import drift_by_kind, drift_table, law_rate
from neuralmechanics.flows.comparison.matching import matching_flows
from neuralmechanics.flows.comparison.run_config import FlowReport, run_config
from neuralmechanics.flows.comparison.sweep import OrderSweep, sweep_learning_rates
from neuralmechanics.flows.curvature.spectrum import HessianSpectrum, hessian_spectrum, sharpness
from neuralmechanics.flows.edge.central_flow import CentralFlow
from neuralmechanics.flows.edge.central_rmsprop import CentralRMSpropFlow
from neuralmechanics.flows.edge.edge_flow import EdgeFlow, EdgeRMSpropFlow
from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.rod_flow import RodFlow, RodRMSpropFlow
from neuralmechanics.flows.equation.module_loss import ModuleLoss, module_loss, module_losses
from neuralmechanics.flows.equation.stop import StopReason
from neuralmechanics.flows.equation.system import Flow, velocity
from neuralmechanics.flows.integration.descend import descend
from neuralmechanics.flows.integration.integrate import METHODS, integrate
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.integration.stochastic.ensemble import simulate_paths
from neuralmechanics.flows.integration.stochastic.stochastic_paths import simulate
from neuralmechanics.flows.models.adam_rmsprop import AdamFlow, RMSpropFlow
from neuralmechanics.flows.models.gradient_flow import GradientFlow, MomentumFlow
from neuralmechanics.flows.models.map_logarithm import MapFlow
from neuralmechanics.flows.models.modified_flow import ModifiedFieldFlow, ModifiedFlow
from neuralmechanics.flows.models.modified_loss import ModifiedLoss
from neuralmechanics.flows.models.principal_flow import PrincipalFlow
from neuralmechanics.flows.models.schedule import Schedule
from neuralmechanics.flows.models.series import coefficients
from neuralmechanics.flows.models.stochastic import StochasticFlow
from neuralmechanics.flows.switching.activation_pattern import activation_pattern

__all__ = [
    "METHODS",
    "AdamFlow",
    "CentralFlow",
    "CentralRMSpropFlow",
    "Comparison",
    "EdgeFlow",
    "EdgeRMSpropFlow",
    "Flow",
    "FlowConfig",
    "FlowReport",
    "GradientFlow",
    "HessianSpectrum",
    "MapFlow",
    "ModifiedFieldFlow",
    "ModifiedFlow",
    "ModifiedLoss",
    "ModuleLoss",
    "MomentumFlow",
    "OrderSweep",
    "Oscillation",
    "Path",
    "PrincipalFlow",
    "RMSpropFlow",
    "RodFlow",
    "RodRMSpropFlow",
    "Schedule",
    "StochasticFlow",
    "StopReason",
    "activation_pattern",
    "balance_rate",
    "coefficients",
    "compare_flows",
    "descend",
    "drift_by_kind",
    "drift_table",
    "hessian_spectrum",
    "integrate",
    "law_rate",
    "matching_flows",
    "module_loss",
    "module_losses",
    "noise_along_generators",
    "read_config",
    "run_config",
    "sharpness",
    "simulate",
    "simulate_paths",
    "sweep_learning_rates",
    "velocity",
]
