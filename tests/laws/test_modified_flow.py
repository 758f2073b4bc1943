"""The modified flow against the exact law (theory 2.4) and against trained networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralmechanics.laws import (
    DriveHistory,
    Drives,
    ExactLaw,
    GradientFlowLaw,
    Hyperparameters,
    ModifiedFlowLaw,
    driven_path,
    normal_form,
    oscillator_path,
    replay,
)

ONE = torch.ones(1, dtype=torch.float64)


def distance(law, hypers):
    """How far a translation charge is from the exact law after each step, in units of q0."""
    history = DriveHistory(ONE, hypers, Drives())
    translation = torch.tensor([False])
    return (replay(law(translation), history) - replay(ExactLaw(translation), history)).abs().squeeze(1)


def worst(law, hypers):
    """The largest distance over the run."""
    return distance(law, hypers).max().item()


def constant(steps, learning_rate, weight_decay, momentum, **options):
    hyper = Hyperparameters(learning_rate, weight_decay, momentum, **options)
    return [replace(hyper, first_step=True)] + [hyper] * (steps - 1)


@pytest.mark.parametrize(("momentum", "published"), [(0.9, 3.0e-6), (0.99, 3.7e-6)])
def test_errors_of_theory_2_4(momentum, published):
    assert worst(ModifiedFlowLaw, constant(1000, 0.1, 1e-3, momentum)) == pytest.approx(published, rel=0.2)


@pytest.mark.parametrize(("momentum", "published"), [(0.9, 4.8e-4), (0.99, 2.7e-3)])
def test_starting_at_rest_has_the_first_order_error_of_theory_2_4(momentum, published):
    steps = 1000
    form = replace(normal_form(Hyperparameters(0.1, 1e-3, momentum), quadratic=False), slope0=0.0)
    resting = oscillator_path(torch.arange(steps + 1, dtype=torch.float64) * 0.1, 1.0, form)
    history = DriveHistory(ONE, constant(steps, 0.1, 1e-3, momentum), Drives())
    exact = replay(ExactLaw(torch.tensor([False])), history).squeeze(1)
    assert (resting - exact).abs().max().item() == pytest.approx(published, rel=0.2)


def test_finite_and_correct_far_beyond_step_20_000():
    """β=.99, λ=5e-4, η=.1, where accumulating e^{γt} overflows; a driven norm settles at its equilibrium."""
    steps, drive = 20_500, 1e-6
    energy = torch.full((steps, 2), drive, dtype=torch.float64)
    history = DriveHistory(
        torch.ones(2, dtype=torch.float64), constant(steps, 0.1, 5e-4, 0.99), Drives(update_energy=energy)
    )
    quadratic = torch.tensor([True, False])
    flow, exact = replay(ModifiedFlowLaw(quadratic), history), replay(ExactLaw(quadratic), history)
    assert flow.isfinite().all()
    assert (flow - exact).abs().max() < 1e-5
    settled = drive * (1 + 0.99) / (2 * 0.1 * 5e-4)  # theory 3.5, n = η(1+β)⟨|v|²⟩/(2λ)
    assert (flow[20_000:, 0] - settled).abs().max() < 1e-9
    assert flow[20_000:, 1].abs().max() < 1e-9


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_learning_rate_drop_dampening_and_momentum_changes_stay_far_below_one_percent(momentum):
    base = constant(300, 0.1, 1e-3, momentum)
    events = {
        "drop": [replace(h, learning_rate=0.01) if k >= 50 else h for k, h in enumerate(base)],
        "stop": [replace(h, learning_rate=0.0) if 50 <= k < 60 else h for k, h in enumerate(base)],
        "dampening": constant(300, 0.1, 1e-3, momentum, dampening=0.5),
        "no time": constant(300, 0.1, 1e-3, momentum, dampening=1.0),
        "nesterov": constant(300, 0.1, 1e-3, momentum, nesterov=True),
        "decoupled": constant(300, 0.1, 1e-3, momentum, decoupled=True),
        "momentum": [replace(h, momentum=0.8) if k >= 50 else h for k, h in enumerate(base)],
        "none for a while": [replace(h, momentum=0.0) if 50 <= k < 80 else h for k, h in enumerate(base)],
        "decay": [replace(h, weight_decay=5e-3) if k >= 50 else h for k, h in enumerate(base)],
        "restart": [replace(h, first_step=True) if k == 50 else h for k, h in enumerate(base)],
    }
    errors = {name: worst(ModifiedFlowLaw, hypers) for name, hypers in events.items()}
    assert max(errors.values()) < 5e-4, errors
    assert all(errors[name] < 2e-5 for name in ("drop", "dampening", "nesterov", "decoupled"))


@pytest.mark.parametrize("run_name", [pytest.param("grid", marks=pytest.mark.slow), "eventful"])
def test_follows_trained_networks_within_half_a_percent(run_name, request):
    run = request.getfixturevalue(run_name)
    flow = run.error(replay(ModifiedFlowLaw(run.quadratic), run.history))
    naive = run.error(replay(GradientFlowLaw(run.quadratic), run.history))
    assert flow.max() < 2e-3
    assert naive.max() > 1  # gradient flow misses by more than the charge itself


@pytest.mark.parametrize("options", [{}, {"dampening": 0.3}, {"nesterov": True}, {"decoupled": True}])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5])
def test_past_the_transient_the_error_is_of_second_order_in_the_learning_rate(momentum, options):
    if not momentum:
        options = {}  # nothing else to tell apart
    rates = np.array([0.08, 0.04, 0.02])
    errors = [distance(ModifiedFlowLaw, constant(round(16 / η), η, 0.01, momentum, **options))[-1] for η in rates]
    order = np.polyfit(np.log(rates), np.log(errors), 1)[0]
    assert order == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("quadratic", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])  # at λ=1e-3, η=.1 the last is underdamped
@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"decoupled": True}, {"dampening": 0.4}])
def test_the_propagator_equals_the_closed_form_and_its_convolution(momentum, quadratic, options):
    if options.get("nesterov") and (quadratic or not momentum):
        options = {}  # its drive is not the energy alone
    steps = 300
    hypers = constant(steps, 0.1, 1e-3, momentum, **options)
    energy = torch.rand(steps, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 1e-3
    law = ModifiedFlowLaw(torch.tensor([quadratic]))
    path = replay(law, DriveHistory(ONE, hypers, Drives(update_energy=energy))).squeeze(1)
    h = 0.1 * (1 - (options.get("dampening", 0.0) if momentum else 0.0))
    forces = 2 * energy.squeeze(1) / h**2 * quadratic
    closed = driven_path(1.0, normal_form(hypers[0], quadratic=quadratic), forces, h)
    assert (path - closed).abs().max() < 1e-12


def test_nesterov_with_dampening_which_torch_refuses_is_nan():
    law = ModifiedFlowLaw()
    law.start(ONE)
    law.step(Hyperparameters(0.1, 0.0, 0.9, 0.5, nesterov=True), Drives(ONE, ONE))
    assert law.value.isnan().all()


def test_the_companion_goes_with_the_parameters_while_its_buffer_rests():
    """β = .9, then 0: torch keeps v, so ⟨θ,v⟩ moves by ⟨d,v⟩ alone, and the next step with momentum begins with it."""
    law = ModifiedFlowLaw(torch.tensor([True, False]))
    law.start(torch.tensor([2.0, 3.0], dtype=torch.float64))
    energy = torch.tensor([0.5, 0.0], dtype=torch.float64)
    for _ in range(3):
        law.step(Hyperparameters(0.1, weight_decay=0.1, momentum=0.9), Drives(update_energy=energy))
    turned = torch.tensor([[0.25, 0.125], [-0.5, 0.75], [1.0, 2.0]], dtype=torch.float64)
    kept = []
    for moved in turned:
        law.step(Hyperparameters(0.1, weight_decay=0.1), Drives(update_energy=energy, update_velocity=moved))
        kept.append(law.state_dict()["companion"])
    # Of a sum, ⟨v,1_A⟩ does not move with the parameters.
    expected = turned[1:].cumsum(0) * torch.tensor([1.0, 0.0])
    assert torch.allclose(torch.stack(kept[1:]) - kept[0], expected, rtol=1e-14, atol=1e-14)
    law.step(Hyperparameters(0.1, weight_decay=0.1, momentum=0.9), Drives(update_energy=energy))
    assert torch.equal(law.state_dict()["companion"], kept[-1])


QUADRATIC = torch.tensor([True, False])


def carried_on(law, hypers, companion=1.0):
    """The path without force from 3 and 2, with a buffer in use."""
    still = torch.zeros(2, dtype=torch.float64)
    law.start(torch.tensor([3.0, 2.0], dtype=torch.float64), torch.full((2,), companion, dtype=torch.float64))
    path = [law.value]
    for hyper in hypers:
        law.step(hyper, Drives(update_energy=still, update_velocity=still))
        path.append(law.value)
    return torch.stack(path)


@pytest.mark.parametrize(("options", "reach"), [({}, 0.9), ({"nesterov": True}, 0.81), ({"dampening": 0.5}, 0.9)])
def test_a_buffer_in_use_carries_a_charge_as_far_as_it_carries_the_parameters(options, reach):
    """Without slopes v moves the parameters by -ηbv/(1-β) in all, b = β (Nesterov β²): the charge by p⟨θ,that⟩."""
    path = carried_on(ModifiedFlowLaw(QUADRATIC), [Hyperparameters(0.1, 0.0, 0.9, **options)] * 1000)
    moved = -0.1 * reach / (1 - 0.9)
    assert torch.allclose(path[-1] - path[0], torch.tensor([2 * moved, moved], dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("decoupled", [{"weight_decay": 0.0}, {"weight_decay": 1e-3, "decoupled": True}])
def test_when_nesterov_is_switched_the_slope_is_that_of_the_buffer(decoupled):
    """v is what it was, and moves the parameters by β²v where it moved them by βv, and the other way round."""
    modes = [Hyperparameters(0.1, momentum=0.9, nesterov=k >= 3, **decoupled) for k in range(200)]
    for hypers in (modes, [replace(hyper, nesterov=not hyper.nesterov) for hyper in modes]):
        flow, exact = (carried_on(law(QUADRATIC), hypers) for law in (ModifiedFlowLaw, ExactLaw))
        assert (flow - exact).abs().max() < 2e-3
        assert (exact[-1] - exact[0]).abs().min() > 0.8
