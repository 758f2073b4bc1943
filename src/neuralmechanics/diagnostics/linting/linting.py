"""What symmetry says about a model before a step is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from neuralmechanics.diagnostics.linting.checks import (
    broken_symmetries,
    not_optimised,
    scale_free_weights,
    states_of_parameters,
    uneven_settings,
    zero_gradients,
)
from neuralmechanics.diagnostics.linting.measured_breaking import MeasuredBreaking, measured_breakings
from neuralmechanics.diagnostics.linting.rates import rates_of
from neuralmechanics.diagnostics.linting.report import CODES, Finding, LintReport
from neuralmechanics.functional.as_found import plain_module
from neuralmechanics.functional.derivatives.gradients import gradients_once
from neuralmechanics.functional.function_module import PlainFunction, as_module
from neuralmechanics.symmetry.families.symmetries import Symmetries
from neuralmechanics.symmetry.finding.find import find_symmetries

__all__ = ["CODES", "Finding", "LintReport", "lint"]


def lint(
    model: nn.Module | PlainFunction,
    batch: Any,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    optimizer: Any = None,
    *,
    symmetries: Symmetries | None = None,
    noticeable: float = 1e-2,
    params: Mapping[str, Tensor] | None = None,
) -> LintReport:
    """Gradients that are identically zero, scale-free weights and their decay, uneven settings, broken symmetries.

    ``optimizer`` is a torch optimiser, a dataclass or a mapping of hyperparameters (with ``param_groups`` of name
    patterns); without it nothing is said about decay and learning rates. ``symmetries`` spares the search. A constant
    is reported when it leaves more than ``noticeable`` of the gradient along a generator, measured by one backward
    pass; models on the meta device are not measured. Nothing in the model changes. A plain function
    ``model(params, batch)`` comes with its named tensors as ``params``.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh())
    >>> report = lint(model, torch.randn(8, 3))
    >>> [(finding.code, finding.parameters, finding.elements) for finding in report]
    [('zero-gradient', ('0.bias',), 4)]
    """
    if not noticeable > 0:
        raise ValueError(f"noticeable is {noticeable}; it must be a positive part of the gradient, such as 0.01")
    model = plain_module(as_module(model, params))
    if symmetries is None:
        symmetries = find_symmetries(model, batch, loss_fn)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    measured, remarks = _measured(symmetries, model, loss_fn, batch)
    findings = [
        *zero_gradients(symmetries, sizes),
        *states_of_parameters(symmetries, sizes, _moving(symmetries, model, loss_fn, batch)),
        *broken_symmetries(measured, symmetries, sizes, noticeable),
    ]
    if optimizer is None:
        remarks = (*remarks, "no optimizer given: weight decay and learning rates are not looked at")
    else:
        rates = rates_of(model, optimizer)
        for check in (not_optimised, uneven_settings, scale_free_weights):
            findings += check(symmetries, sizes, rates)
    findings.sort(key=lambda f: (f.severity != "warning", list(CODES).index(f.code)))
    return LintReport(tuple(findings), remarks)


def _moving(
    symmetries: Symmetries, model: nn.Module, loss_fn: Callable[[Any, Any], Tensor] | None, batch: Any
) -> frozenset[str]:
    """Which of the parameters without a path in the graph have a gradient all the same."""
    unused = [c.parameter for c in symmetries.coverage if c.status == "unused"]
    if not unused or any(p.is_meta for p in model.parameters()):
        return frozenset()
    _, gradients = gradients_once(model, loss_fn, batch)
    return frozenset(name for name in unused if name in gradients and bool(gradients[name].any()))


def _measured(
    symmetries: Symmetries, model: nn.Module, loss_fn: Callable[[Any, Any], Tensor] | None, batch: Any
) -> tuple[tuple[MeasuredBreaking, ...], tuple[str, ...]]:
    if any(p.is_meta for p in model.parameters()):
        return (), ("the model has no weights (meta device): constants that break symmetries are not measured",)
    return measured_breakings(symmetries, model, loss_fn, batch), ()
