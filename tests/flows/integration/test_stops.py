"""Acceptance 8: stiff, kinked, NaN and exploding problems end with a named reason and the partial trajectory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import AdamFlow, GradientFlow, ModifiedFlow, StopReason, integrate
from neuralmechanics.flows.equation.stop import Halt
from neuralmechanics.flows.integration.adaptive import _Memory

from ..problems import network_loss, point, valley


def _stiff(params: dict[str, Tensor]) -> Tensor:
    return 0.5 * (params["x"] * torch.tensor([1e5, 1.0], dtype=torch.float64)).dot(params["x"])


def _kinked(params: dict[str, Tensor]) -> Tensor:
    """A valley whose floor is a kink: the field jumps across it and the flow slides along it."""
    x, y = params["x"]
    return x.abs() + 0.1 * y.square()


def _nan(params: dict[str, Tensor]) -> Tensor:
    """Its slope is steeper and steeper towards 0, beyond which there is no loss."""
    return torch.sqrt(params["x"].sum())


def _exploding(params: dict[str, Tensor]) -> Tensor:
    return -params["x"].pow(3).sum() / 3


@pytest.mark.parametrize(
    ("loss", "start", "method", "reason"),
    [
        (_stiff, (1.0, 1.0), "dopri5", StopReason.STIFF),
        (_stiff, (1.0, 1.0), "rk4", StopReason.EXPLODED),
        (_stiff, (1.0, 1.0), "gauss4", StopReason.NOT_CONVERGED),
        (_kinked, (0.4, 1.0), "dopri5", StopReason.KINKED),
        (_nan, (0.3,), "dopri5", StopReason.NOT_FINITE),
        (_nan, (0.3,), "rk4", StopReason.NOT_FINITE),
        (_exploding, (1.0,), "dopri5", StopReason.EXPLODED),
        (_exploding, (1.0,), "rk4", StopReason.EXPLODED),
        (valley, (1.0, 2.0), "dopri5", StopReason.EVALUATIONS),
    ],
)
def test_reasons(loss, start: tuple[float, ...], method: str, reason: StopReason) -> None:
    times = [0.01 * k for k in range(400)]
    cap = 30 if loss is valley else 6000
    path = integrate(
        GradientFlow(loss), point(*start), times, method=method, step=0.01, max_evaluations=cap, kinks="ignore"
    )
    assert path.reason is reason
    assert not path.completed
    assert 1 <= len(path.times) < len(times)
    assert all(len(values) == len(path.times) for values in path.params.values())
    assert all(bool(torch.isfinite(values).all()) for values in path.params.values())
    assert torch.equal(path.times, torch.tensor(times[: len(path.times)], dtype=torch.float64))
    assert path.evaluations <= cap
    assert len(path.message) > 20
    assert "\n" not in path.message
    with pytest.raises(RuntimeError, match="stopped at t="):
        path.require_completed()


def test_fixed_steps_pass_the_kink_and_say_how_well() -> None:
    path = integrate(GradientFlow(_kinked), point(0.4, 1.0), [0, 1], step=0.005)
    assert path.completed
    assert float(path.final["x"][0].abs()) < 0.005
    assert float(path.final["x"][1]) == pytest.approx(0.8187307530779818, rel=1e-9)
    assert 1e-6 < float(path.error_estimate[-1]) < 0.01


def test_relu_networks_complete_with_the_default_method() -> None:
    loss = network_loss("relu", width=8)
    path = integrate(GradientFlow(loss), loss.theta0, [0, 5, 10])
    assert path.completed
    assert path.pattern_changes is not None
    assert int(path.pattern_changes.sum()) > 0
    # Kinks cost the order and not the estimate: it is the distance from the run that goes from kink to kink.
    exact = integrate(GradientFlow(loss), loss.theta0, [0, 10], method="dopri5").require_completed().final
    error = max(float((path.final[name] - value).abs().max()) for name, value in exact.items())
    assert 1e-5 < error < 1e-3
    assert error / 3 < float(path.error_estimate[-1]) < 3 * error


def test_a_loss_that_is_nan_from_the_start() -> None:
    path = integrate(GradientFlow(lambda p: (p["x"] * float("nan")).sum()), point(1.0), [0, 1])
    assert path.reason is StopReason.NOT_FINITE
    assert path.times.tolist() == [0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModifiedFlow(valley, learning_rate=0.0), "learning_rate is 0.0"),
        (lambda: ModifiedFlow(valley, learning_rate=0.1, order=0), "order is 0"),
        (lambda: ModifiedFlow(valley, learning_rate=0.1, order=2, momentum=0.9, route="map"), "not near the identity"),
        (
            lambda: ModifiedFlow(valley, learning_rate=[(5, 0.1), (5, 0.2)], momentum=0.5, order=2),
            "drop order for the second-order flow",
        ),
        (lambda: ModifiedFlow(valley, learning_rate=0.1, nesterov=True), "needs momentum > 0"),
        (lambda: ModifiedFlow(valley, learning_rate=0.1, route="magic"), "route is 'magic'"),
        (lambda: GradientFlow(valley, weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: AdamFlow(valley, learning_rate=0.1, betas=(1.0, 0.9)), r"betas\[0\] is 1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("reason", "rejected", "border", "jumped", "cause"),
    [
        (StopReason.EVALUATIONS, 0, 21, 0, StopReason.STIFF),
        (StopReason.EVALUATIONS, 0, 20, 0, StopReason.EVALUATIONS),
        (StopReason.EVALUATIONS, 15, 0, 0, StopReason.KINKED),
        (StopReason.EVALUATIONS, 0, 0, 15, StopReason.KINKED),
        (StopReason.EVALUATIONS, 14, 0, 14, StopReason.EVALUATIONS),
        (StopReason.EVALUATIONS, 15, 21, 15, StopReason.STIFF),
        (StopReason.STEP, 15, 40, 0, StopReason.KINKED),
        (StopReason.STEP, 14, 40, 14, StopReason.STEP),
        (StopReason.NOT_FINITE, 40, 40, 40, StopReason.NOT_FINITE),
    ],
)
def test_a_halt_is_named_after_what_held_the_last_forty_steps_down(
    reason: StopReason, rejected: int, border: int, jumped: int, cause: StopReason
) -> None:
    """More than half at the border of stability: stiff; more than .35 rejected or with a jump: kinked."""
    memory = _Memory()
    for kept in (memory.accepted, memory.at_border, memory.jumped):
        kept.extend([kept is not memory.accepted] * 100)  # long ago, and forgotten
    memory.accepted.extend([False] * rejected + [True] * (40 - rejected))
    memory.at_border.extend([True] * border + [False] * (40 - border))
    memory.jumped.extend([True] * jumped + [False] * (40 - jumped))
    assert memory.diagnose(Halt(reason, "it ended")).reason is cause
