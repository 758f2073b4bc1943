"""What can be asked of a model whose symmetries are known: check, probe, count, lint, balance, follow one step."""

from neuralmechanics.diagnostics.balancing.balancing import balance
from neuralmechanics.diagnostics.checking.asserting import assert_symmetric
from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.optimizer_fields import GradientFlow, HeavyBall, SignDescent, WeightDecay
from neuralmechanics.diagnostics.counting.report import LawCount
from neuralmechanics.diagnostics.linting.linting import lint
from neuralmechanics.diagnostics.linting.measured_breaking import measure_breaking
from neuralmechanics.diagnostics.probing.probing import probe_symmetries
from neuralmechanics.diagnostics.steps.gradient_energy import GradientEnergy, GradientGrowth, gradient_energy
from neuralmechanics.diagnostics.steps.update_defect import update_defect

__all__ = [
    "GradientEnergy",
    "GradientFlow",
    "GradientGrowth",
    "HeavyBall",
    "LawCount",
    "SignDescent",
    "WeightDecay",
    "assert_symmetric",
    "balance",
    "check_symmetries",
    "count_laws",
    "gradient_energy",
    "lint",
    "measure_breaking",
    "probe_symmetries",
    "update_defect",
]
