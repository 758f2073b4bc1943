"""``assert_symmetric``: for test suites, since a wrong backward pass breaks ⟨g, ξ⟩ = 0 at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.diagnostics.checking.report import CheckReport
from neuralmechanics.diagnostics.checking.verdicts import WRONG_BACKWARD
from neuralmechanics.functional.batches import require_batches
from neuralmechanics.functional.function_module import PlainFunction, as_module
from neuralmechanics.functional.pure_loss import LossFunction
from neuralmechanics.symmetry.families.family import KINDS
from neuralmechanics.symmetry.families.symmetries import Symmetries
from neuralmechanics.symmetry.finding.find import find_forward_symmetries

__all__ = ["assert_symmetric"]


def assert_symmetric(
    model: nn.Module | PlainFunction,
    loss_fn: LossFunction | None,
    batches: Sequence[Any],
    *,
    expect: Mapping[str, int] | None = None,
    symmetries: Symmetries | None = None,
    hessian: bool = True,
    seed: int = 0,
    params: Mapping[str, Tensor] | None = None,
) -> CheckReport:
    """Finds the symmetries of the forward pass and checks that loss, gradient and Hessian obey them.

    A fault of the backward pass breaks a constraint. A fault of the forward pass that is itself symmetric shows in the
    number of symmetries: ``expect={"rescale": 7}`` compares the charges of each kind named. ``symmetries`` skips the
    search, for operations that it has no rule for. ``hessian=False`` leaves out second derivatives, for backward passes
    that have none. A plain function ``model(params, batch)`` comes with its named tensors as ``params``.

    Raises AssertionError with the table where a family is broken or the numbers differ, and where there is no symmetry
    at all to test, or nothing moves the loss (``expect={}`` allows that). Returns the report.
    """
    __tracebackhide__ = True  # what a test suite shows is the caller's line
    _require_expectation(expect)
    model = as_module(model, params)
    require_batches(batches)
    found = find_forward_symmetries(model, batches[0], loss_fn) if symmetries is None else symmetries
    if not found.families and expect is None:
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"{type(model).__name__} has no trainable parameter, so there is no gradient to be tested")
        unknown = ", ".join(map(str, found.unknown))
        raise AssertionError(
            f"no symmetry was found, so nothing was tested{f' (no rule for {unknown})' if unknown else ''}; "
            "test a model with homogeneous activations or norms, or pass expect={} if none is meant"
        )
    counts = found.count()
    for kind, number in (expect or {}).items():
        if counts.get(kind, 0) != number:
            raise AssertionError(f"{counts.get(kind, 0)} {kind} charges found, {number} expected\n{found!r}")
    report = check_symmetries(found, model, loss_fn, batches, hessian=hessian, seed=seed)
    if report.families and expect is None and all(f.verdict == "untested" for f in report.families):
        raise AssertionError(
            f"nothing was tested: {report.families[0].reason}; all zeros, or a dead network, say nothing of its code"
        )
    if not report.ok:
        first = report.broken[0]
        backward = "wrong backward pass: " if all(WRONG_BACKWARD in f.reason for f in report.broken) else ""
        count = f"{len(report.broken)} of {len(report.families)} families broken"
        raise AssertionError(f"{backward}{count}, first {first.family!r}: {first.reason}\n{report!r}")
    return report


def _require_expectation(expect: Mapping[str, int] | None) -> None:
    """ValueError where ``expect`` is not whole numbers by kinds that there are."""
    if expect is None:
        return
    if not isinstance(expect, Mapping):
        raise ValueError(f"expect is {expect!r}; give numbers by kind, such as {{'rescale': 7}}")
    for kind, number in expect.items():
        if kind not in KINDS:
            raise ValueError(f"expect names the kind {kind!r}, which there is not; kinds: {', '.join(KINDS)}")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(f"expect[{kind!r}] is {number!r}; give the number of charges, a whole number")
