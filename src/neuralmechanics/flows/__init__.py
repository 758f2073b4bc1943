"""Whole networks in continuous time: fields over named parameters, noise, integration, and which model is right."""

from neuralmechanics.flows.adaptive import AdamFlow, RMSpropFlow
from neuralmechanics.flows.balance import balance_rate, noise_along_generators
from neuralmechanics.flows.compare import Comparison, compare_flows
from neuralmechanics.flows.config import FlowConfig, read_config
from neuralmechanics.flows.descend import descend
from neuralmechanics.flows.drift import drift_by_kind, drift_table, law_rate
from neuralmechanics.flows.gradient_flow import GradientFlow, MomentumFlow
from neuralmechanics.flows.integrate import METHODS, integrate
from neuralmechanics.flows.map_logarithm import MapFlow
from neuralmechanics.flows.matching import matching_flows
from neuralmechanics.flows.modified_flow import ModifiedFieldFlow, ModifiedFlow
from neuralmechanics.flows.modified_loss import ModifiedLoss
from neuralmechanics.flows.noise import StochasticFlow
from neuralmechanics.flows.path import Path, StopReason
from neuralmechanics.flows.patterns import activation_pattern
from neuralmechanics.flows.principal_flow import PrincipalFlow
from neuralmechanics.flows.problem import ModuleLoss, module_loss, module_losses
from neuralmechanics.flows.run_config import FlowReport, run_config
from neuralmechanics.flows.schedule import Schedule
from neuralmechanics.flows.series import coefficients
from neuralmechanics.flows.simulate import simulate
from neuralmechanics.flows.sweep import OrderSweep, sweep_learning_rates
from neuralmechanics.flows.system import Flow, velocity

__all__ = [
    "METHODS",
    "AdamFlow",
    "Comparison",
    "Flow",
    "FlowConfig",
    "FlowReport",
    "GradientFlow",
    "MapFlow",
    "ModifiedFieldFlow",
    "ModifiedFlow",
    "ModifiedLoss",
    "ModuleLoss",
    "MomentumFlow",
    "OrderSweep",
    "Path",
    "PrincipalFlow",
    "RMSpropFlow",
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
    "integrate",
    "law_rate",
    "matching_flows",
    "module_loss",
    "module_losses",
    "noise_along_generators",
    "read_config",
    "run_config",
    "simulate",
    "sweep_learning_rates",
    "velocity",
]
