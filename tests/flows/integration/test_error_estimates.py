"""The error estimate of every method is the error within a factor of ten, on smooth flows at usual tolerances."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import GradientFlow, ModifiedFlow, ModifiedLoss, StopReason, integrate

from ..problems import ROTATED, point, quadratic, tanh_mlp, tanh_mlp_start, valley


def chain(params: dict[str, Tensor]) -> Tensor:
    """Four factors whose product is to be one: ends in a minimum, where stability and not accuracy sets the steps."""
    return (params["x"].prod() - 1) ** 2 / 2


def banana(params: dict[str, Tensor]) -> Tensor:
    """A stiff curved valley: a fast fall, then a slow way along its bottom."""
    x, y = params["x"]
    return (1 - x) ** 2 + 2 * (y - x**2) ** 2


def wells(params: dict[str, Tensor]) -> Tensor:
    """Two wells, left from near the ridge between them: errors grow before they shrink."""
    x = params["x"]
    return ((x**2 - 1) ** 2).sum() / 4 + 0.3 * x[0] * x[1]


def waves(params: dict[str, Tensor]) -> Tensor:
    x, y = params["x"]
    return torch.sin(3 * x) * torch.cos(2 * y) + 0.1 * (x**2 + y**2)


def quartic(params: dict[str, Tensor]) -> Tensor:
    return (params["x"] ** 4).sum() / 4


PROBLEMS = {
    "valley": (GradientFlow(valley), point(1.2, -0.8), [0.0, 0.7, 1.4]),
    "chain": (GradientFlow(chain), point(0.5, 0.4, 0.7, 0.3), [0.0, 10.0, 30.0]),
    "waves": (GradientFlow(waves), point(0.3, 0.6), [0.0, 0.3, 0.8]),
    "banana": (GradientFlow(banana), point(-0.5, 1.1), [0.0, 0.5, 2.0]),
    "end of the banana": (GradientFlow(banana), point(-0.5, 1.1), [0.0, 5.0, 10.0]),
    "wells": (GradientFlow(wells), point(0.1, 0.2), [0.0, 2.0, 4.0]),
    "quartic": (GradientFlow(quartic), point(2.0, -1.0), [0.0, 1.0, 8.0]),
    "quadratic": (GradientFlow(quadratic(ROTATED)), point(1.0, -0.4), [0.0, 0.5, 1.5]),
    "tanh network": (GradientFlow(tanh_mlp), tanh_mlp_start(), [0.0, 2.0, 5.0]),
    "heavy ball": (ModifiedFlow(valley, learning_rate=0.02, momentum=0.9), point(1.2, -0.8), [0.0, 0.1, 0.3]),
    "third order": (
        ModifiedFlow(waves, learning_rate=0.02, order=3, route="derivatives"), point(0.3, 0.6), [0.0, 0.3, 0.8],
    ),
    "modified loss": (ModifiedLoss(valley, learning_rate=0.1), point(1.2, -0.8), [0.0, 0.7, 1.4]),
}  # fmt: skip
# Steps so long that orders say nothing of them are the hardest: loose tolerances, and order 8.
METHODS: tuple[tuple[str, dict[str, float]], ...] = (
    *(("dopri5", {"rtol": tolerance, "atol": tolerance}) for tolerance in (1e-4, 1e-8)),
    *(("dop853", {"rtol": tolerance, "atol": tolerance}) for tolerance in (1e-4, 1e-6, 1e-8)),
    ("rk4", {"steps": 40}),
    ("dopri5-fixed", {"steps": 60}),
    ("midpoint", {"steps": 80}),
    ("euler", {"steps": 120}),
)
CHEAP = ("valley", "chain", "waves")


FINEST: dict[str, Any] = {"rtol": 1e-13, "atol": 1e-14, "estimate_error": False}


@pytest.mark.parametrize(
    "problem", [pytest.param(name, marks=() if name in CHEAP else pytest.mark.slow) for name in PROBLEMS]
)
def test_it_is_the_error_within_a_factor_of_ten(problem: str) -> None:
    """On both sides, in the middle of the way and at its end, at loose tolerances too."""
    flow, start, times = PROBLEMS[problem]
    # Two integrations, because what is between steps is known less well than where a step ends.
    right = [integrate(flow, start, [0.0, time], None, "dop853", **FINEST).final for time in times[1:]]
    for method, given in METHODS:
        options = {"step": times[-1] / given["steps"]} if "steps" in given else given
        path = integrate(flow, start, times, None, method, **options)
        if path.reason is StopReason.EXPLODED and "steps" in given:
            # Steps beyond what the method bears, which is no matter of the estimate.
            continue
        for k in (1, 2):
            error = max(float((path.at(k)[name] - value).abs().max()) for name, value in right[k - 1].items())
            ratio = float(path.error_estimate[k]) / error
            assert 0.1 < ratio < 10, (method, given, k, ratio)


def test_without_it_adaptive_steps_give_the_sum_of_local_errors_for_nothing() -> None:
    """Which is larger, of one order less, and costs no evaluation."""
    flow, start, times = PROBLEMS["valley"]
    estimated = integrate(flow, start, times, None, "dopri5")
    plain = integrate(flow, start, times, None, "dopri5", estimate_error=False)
    assert torch.equal(plain.final["x"], estimated.final["x"])
    assert float(plain.error_estimate[-1]) > 10 * float(estimated.error_estimate[-1]) > 0
    assert 2.9 * plain.evaluations < estimated.evaluations < 3.1 * plain.evaluations


def test_steps_that_cannot_be_halved_leave_the_sum_of_local_errors() -> None:
    """A hole in the loss that the steps pass over and their halves hit: the estimate stays finite."""

    def holed(params: dict[str, Tensor]) -> Tensor:
        x = params["x"]
        # The flow is x = t: its first step ends at 1, and half of that is what no stage of the step itself sees.
        return -(x * torch.where((x - 0.5).abs() < 1e-6, torch.nan, 1.0)).sum()

    path = integrate(GradientFlow(holed), point(0.0), [0.0, 4.0], None, "dopri5", step=1.0, kinks="ignore")
    assert path.require_completed().final["x"].item() == pytest.approx(4.0)
    assert 0 <= float(path.error_estimate[-1]) < 1e-12
    assert path.evaluations < 30
