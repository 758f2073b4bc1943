"""Acceptance 2: orders of the integrators, charges kept by Gauss methods, agreement with scipy and torchdiffeq."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neuralmechanics.flows import METHODS, GradientFlow, ModifiedFlow, StopReason, integrate
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.layout import Layout

from ..problems import charges_of, network_loss, point, valley

FLOW, START, END = GradientFlow(valley), point(1.5, 1.0), 0.6


@pytest.fixture(scope="module")
def exact() -> torch.Tensor:
    """θ(0.6) from scipy's DOP853 at its tightest."""
    layout = Layout.of(START)
    field = next(FLOW.system(START).pieces(0, 1)).field
    answer = solve_ivp(
        lambda t, y: field(torch.from_numpy(y)).numpy(), (0, END), layout.flatten(START).numpy(),
        method="DOP853", rtol=2.3e-14, atol=1e-15,
    )  # fmt: skip
    return torch.from_numpy(answer.y[:, -1])


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4), ("dopri5-fixed", 5), ("gauss2", 2), ("gauss4", 4)]
)
def test_global_order(method: str, order: int, exact: torch.Tensor) -> None:
    coarsest = {1: 0.0125, 5: 0.025}.get(order, 0.05)
    steps = torch.tensor([coarsest, coarsest / 2, coarsest / 4], dtype=torch.float64)
    paths = [integrate(FLOW, START, [0, END], method=method, step=float(h)) for h in steps]
    errors = torch.stack([(path.final["x"] - exact).abs().max() for path in paths])
    assert slope(steps, errors) == pytest.approx(order, abs=0.15)
    # The estimate from shorter steps is the error itself to leading order.
    estimates = torch.stack([path.error_estimate[-1] for path in paths])
    assert (estimates[-1] / errors[-1]).item() == pytest.approx(1, abs=0.3)


def test_adaptive_error_follows_the_tolerance(exact: torch.Tensor) -> None:
    errors = []
    for rtol in (1e-5, 1e-7, 1e-9, 1e-11):
        path = integrate(FLOW, START, [0, END], method="dopri5", rtol=rtol, atol=rtol * 1e-2)
        errors.append(float((path.final["x"] - exact).abs().max()))
        assert errors[-1] < 10 * rtol
        assert errors[-1] < 10 * float(path.error_estimate[-1])
    assert errors == sorted(errors, reverse=True)


def test_agreement_with_dop853_and_torchdiffeq_on_a_network(exact: torch.Tensor) -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")
    mine = integrate(FLOW, START, [0, END], method="dopri5", rtol=1e-12, atol=1e-14, estimate_error=False).final["x"]
    assert float((mine - exact).abs().max()) < 1e-11

    loss = network_loss("tanh")
    flow = GradientFlow(loss)
    system = flow.system(loss.theta0)
    field = next(system.pieces(0, 1)).field
    times = torch.linspace(0, 2, 5, dtype=torch.float64)
    theirs = torchdiffeq.odeint(lambda t, y: field(y), system.initial, times, method="dopri5", rtol=1e-11, atol=1e-13)
    path = integrate(flow, loss.theta0, times, method="dopri5", rtol=1e-11, atol=1e-13, estimate_error=False)
    for index in range(5):
        ours = system.layout.flatten(path.at(index))
        assert float((ours - theirs[index]).abs().max()) < 1e-9


def test_dense_output_between_long_steps() -> None:
    times = np.linspace(0, END, 101)
    few = integrate(FLOW, START, times, method="dopri5", rtol=1e-8, atol=1e-10, estimate_error=False)
    tight = integrate(FLOW, START, times, method="dopri5", rtol=1e-12, atol=1e-14, estimate_error=False)
    assert few.evaluations < 2 * len(times)
    assert float((few.params["x"] - tight.params["x"]).abs().max()) < 1e-6
    assert torch.equal(few.times, torch.from_numpy(times))


@pytest.mark.parametrize("kind", ["batch_norm", "linear"])
@pytest.mark.parametrize("method", ["gauss2", "gauss4"])
def test_gauss_keeps_quadratic_charges_to_rounding(method: str, kind: str) -> None:
    loss = network_loss(kind)
    charges = charges_of(loss, kind)
    step = 0.02 if kind == "batch_norm" else 0.1
    times, flow = [0, 10 * step, 20 * step], GradientFlow(loss)
    path = integrate(flow, loss.theta0, times, charges, method, step=step, estimate_error=False).require_completed()
    drift = (path.charges - path.charges[0]).abs().max() / path.charges[0].abs().max()
    assert float(drift) < 1e-13
    rk4 = integrate(flow, loss.theta0, times, charges, "rk4", step=step, estimate_error=False)
    assert float((rk4.charges - rk4.charges[0]).abs().max()) > 1e-11


def test_rectifier_patterns_are_counted() -> None:
    loss = network_loss("relu", width=8)
    path = integrate(GradientFlow(loss), loss.theta0, [0, 1, 2, 4, 8], step=0.1)
    before, changes = None, [0]
    for index in range(5):
        weight, bias = path.params["0.weight"][index], path.params["0.bias"][index]
        signs = loss._batch[0] @ weight.T + bias > 0
        if before is not None:
            changes.append(int((signs != before).sum()))
        before = signs
    assert path.pattern_changes is not None
    assert path.pattern_changes.tolist() == changes
    assert sum(changes) > 0
    smooth = network_loss("tanh")
    assert integrate(GradientFlow(smooth), smooth.theta0, [0, 1], step=0.5).pattern_changes is None


def test_default_step_follows_the_curvature() -> None:
    stiff = GradientFlow(lambda p: 50.0 * p["x"].square().sum())
    path = integrate(stiff, point(1.0), [0, 1])
    assert path.completed
    # Four evaluations a step, and one and a half times as many for the estimate.
    assert 1 / 100 * 0.4 < 2.5 * 4 / path.evaluations < 1 / 100
    assert abs(float(path.final["x"])) < 1e-15


def test_a_tolerance_is_kept_or_refused(exact: torch.Tensor) -> None:
    """Fixed steps have none: asked for one, the usual method is one that keeps it."""
    for given in ({"rtol": 1e-12}, {"atol": 1e-14}):
        with pytest.raises(ValueError, match="takes fixed steps, which keep no rtol or atol"):
            integrate(FLOW, START, [0, END], method="rk4", **given)
    usual = integrate(FLOW, START, [0, END]).final["x"]
    fine = integrate(FLOW, START, [0, END], rtol=1e-12, atol=1e-14).final["x"]
    assert float((fine - exact).abs().max()) < 1e-11
    assert float((usual - exact).abs().max()) > 1e-9


def test_times_and_settings_are_refused_in_one_line() -> None:
    for times in ([], [0, 0], [1, 0], [0, float("nan")]):
        with pytest.raises(ValueError, match="times"):
            integrate(FLOW, START, times)
    with pytest.raises(ValueError, match=f"expected one of {', '.join(METHODS)}"):
        integrate(FLOW, START, [0, 1], method="magic")
    with pytest.raises(ValueError, match="step is -1"):
        integrate(FLOW, START, [0, 1], step=-1)
    with pytest.raises(TypeError, match="expected one number"):
        integrate(GradientFlow(lambda p: p["x"]), START, [0, 1])
    with pytest.raises(ValueError, match="does not depend"):
        integrate(GradientFlow(lambda p: torch.tensor(1.0)), START, [0, 1])
    with pytest.raises(ValueError, match="momentum is 1"):
        ModifiedFlow(valley, learning_rate=0.1, momentum=1.0)


class _Listener:
    def __init__(self, patience: int) -> None:
        self.heard: list[tuple] = []
        self.patience = patience

    def start(self, total: int, title: str) -> None:
        self.heard.append((total, title))

    def advance(self, steps: int, **scalars: float) -> None:
        self.heard.append((steps, scalars["time"], scalars["loss"]))
        if len(self.heard) > self.patience:
            raise StopIteration

    def finish(self) -> None:
        self.heard.append(("finish",))


def test_a_meter_hears_the_progress_and_may_stop_it() -> None:
    patient, impatient = _Listener(99), _Listener(2)
    path = integrate(FLOW, START, [0, 0.1, 0.2, 0.3], step=0.1, meter=patient)
    assert patient.heard[0] == (4, "gradient flow")
    assert [round(entry[1], 3) for entry in patient.heard[1:-1]] == [0.1, 0.2, 0.3]
    assert patient.heard[2][2] == float(path.losses[2])
    stopped = integrate(FLOW, START, [0, 0.1, 0.2, 0.3], step=0.1, meter=impatient)
    assert stopped.reason is StopReason.STOPPED
    assert len(stopped.times) == 3
    assert impatient.heard[-1] == ("finish",)
