"""The error estimate of every method is the error within a factor of ten, on smooth flows at usual tolerances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import GradientFlow, ModifiedFlow, Path, integrate

from ..problems import point, tanh_mlp, tanh_mlp_start, valley

PROBLEMS = {
    "valley": (GradientFlow(valley), point(1.2, -0.8), [0.0, 0.7, 1.4]),
    "tanh network": (GradientFlow(tanh_mlp), tanh_mlp_start(), [0.0, 2.0, 5.0]),
    "heavy ball": (ModifiedFlow(valley, learning_rate=0.02, momentum=0.9), point(1.2, -0.8), [0.0, 0.1, 0.3]),
}


def _distance(path: Path, other: Path, k: int) -> float:
    return max(float((path.at(k)[name] - value).abs().max()) for name, value in other.at(k).items())


@pytest.mark.parametrize(
    "problem", ["valley", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tanh network", "heavy ball"))]
)
def test_it_is_the_error_within_a_factor_of_ten(problem: str) -> None:
    flow, start, times = PROBLEMS[problem]
    right = integrate(flow, start, times, None, "dop853", rtol=1e-12, atol=1e-14, estimate_error=False)
    for method, options in (
        ("rk4", {"step": min(0.05, times[-1] / 40)}),
        ("dopri5", {"rtol": 1e-8, "atol": 1e-8}),
        ("dop853", {"rtol": 1e-8, "atol": 1e-8}),
    ):
        path = integrate(flow, start, times, None, method, **options)
        for k in (1, 2):
            ratio = float(path.error_estimate[k]) / _distance(path, right, k)
            assert 0.1 < ratio < 10, (method, k, ratio)


def test_without_it_adaptive_steps_give_the_sum_of_local_errors_for_nothing() -> None:
    """Which is larger, of one order less, and costs no evaluation."""
    flow, start, times = PROBLEMS["valley"]
    estimated = integrate(flow, start, times, None, "dopri5")
    plain = integrate(flow, start, times, None, "dopri5", estimate_error=False)
    assert torch.equal(plain.final["x"], estimated.final["x"])
    assert float(plain.error_estimate[-1]) > 10 * float(estimated.error_estimate[-1]) > 0
    assert 1.4 * plain.evaluations < estimated.evaluations < 1.6 * plain.evaluations


def test_steps_that_cannot_be_doubled_leave_the_sum_of_local_errors() -> None:
    """A barrier, x > 0, that doubled steps pass and single steps do not: the estimate stays finite."""

    def barrier(params: dict[str, Tensor]) -> Tensor:
        return (1.5 * params["x"] ** 2 - torch.log(params["x"])).sum()

    path = integrate(GradientFlow(barrier), point(1e-2), [0.0, 30.0], None, "dopri5", rtol=1e-2, atol=1e-2)
    assert path.require_completed().final["x"].item() == pytest.approx(1 / math.sqrt(3), abs=0.05)
    assert math.isfinite(float(path.error_estimate[-1]))
