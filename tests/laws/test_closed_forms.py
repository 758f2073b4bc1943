"""The oscillator and its thresholds against scipy, extended precision and the roots of the exact recursion."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import odeint
from scipy.linalg import expm

from neuralmechanics.laws import (
    Hyperparameters,
    NormalForm,
    normal_form,
    oscillation_threshold,
    oscillator_path,
    relaxation_path,
)
from neuralmechanics.laws.continuous.oscillator import modes

REGIMES = {
    "overdamped": NormalForm(2.0, 0.3, -0.4),
    "almost critical": NormalForm(1.0, 1.0 - 1e-13, -0.4),
    "critical": NormalForm(1.0, 1.0, -0.4),
    "just beyond": NormalForm(1.0, 1.0 + 1e-13, -0.4),
    "underdamped": NormalForm(0.2, 4.0, -0.4),
    "undamped": NormalForm(0.0, 2.0, -0.4),
    "free": NormalForm(0.0, 0.0, -0.4),
    "no spring": NormalForm(0.7, 0.0, -0.4),
}


def augmented(form: NormalForm, force: float) -> np.ndarray:
    """The generator of (x, x', 1)."""
    return np.array([[0, 1, 0], [-form.frequency_squared, -2 * form.damping, force], [0, 0, 0]])


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("force", [0.0, 1.7])
def test_path_equals_the_matrix_exponential_and_odeint(name, force):
    form, times, x0 = REGIMES[name], np.linspace(0, 6, 25), 1.5
    path = oscillator_path(torch.from_numpy(times), x0, form, force).numpy()
    start = np.array([x0, form.slope0 * x0, 1.0])
    exponential = np.array([(expm(augmented(form, force) * t) @ start)[0] for t in times])
    integrated = odeint(lambda y, t: augmented(form, force) @ y, start, times, rtol=1e-11, atol=1e-12)[:, 0]
    assert np.abs(path - exponential).max() < 1e-12
    assert np.abs(path - integrated).max() < 1e-8


@settings(max_examples=200, deadline=None)
@given(damping=st.floats(1e-6, 3.0), detuning=st.floats(-1.0, 5.0), time=st.floats(1e-3, 20.0))
def test_modes_against_eighty_digits(damping, detuning, time):
    """Against the series in eighty digits: the response, which cancels most, relative to itself."""
    frequency_squared = damping**2 * (1 + detuning)
    found = modes(*(torch.tensor(v, dtype=torch.float64) for v in (damping, frequency_squared, time)))
    getcontext().prec = 80
    γ, ω2, t = Decimal(damping), Decimal(frequency_squared), Decimal(time)
    κ2, u, power, cosh, sinhc, k = γ * γ - ω2, t * t, Decimal(1), Decimal(0), Decimal(0), 0
    while k < 4 or abs(power) > Decimal(10) ** -60:
        cosh += power
        sinhc += power / (2 * k + 1)
        power *= κ2 * u / ((2 * k + 1) * (2 * k + 2))
        k += 1
    fade = (-γ * t).exp()
    cosine, sine = fade * cosh, fade * t * sinhc
    response = (1 - cosine - γ * sine) / ω2 if ω2 > Decimal(10) ** -25 else None
    assert abs(Decimal(found.cosine.item()) - cosine) < Decimal("1e-14") * (1 + t)
    assert abs(Decimal(found.sine.item()) - sine) < Decimal("1e-14") * t * (1 + t)
    if response is not None:
        assert abs(Decimal(found.response.item()) - response) < Decimal("1e-13") * abs(response)


def test_nothing_overflows_at_any_time():
    times = torch.tensor([1e3, 1e6, 1e12], dtype=torch.float64)
    for form in REGIMES.values():
        if form.damping and form.frequency_squared:
            path = oscillator_path(times, 1.0, form, force=0.6)
            assert torch.allclose(path[1:], torch.full((2,), 0.6 / form.frequency_squared, dtype=torch.float64))


def test_a_tiny_decay_is_not_lost_to_cancellation():
    """ω² ≪ γ²: the slow root is -ω²/(γ+κ), where γ - κ would have no correct digit."""
    form = normal_form(Hyperparameters(0.1, 1e-18, 0.9), quadratic=True)
    assert form.damping**2 - form.frequency_squared == form.damping**2
    lost = 1 - oscillator_path(torch.tensor([1e16], dtype=torch.float64), 1.0, form)
    assert lost.item() == pytest.approx(1 - np.exp(-2e-18 * 1e16 / 0.1), rel=1e-10)


def test_relaxation_path_solves_its_equation():
    times = torch.linspace(0, 3, 7, dtype=torch.float64)
    exact = np.exp(-0.8 * times.numpy()) * (2.0 - 0.5 / 0.8) + 0.5 / 0.8
    assert np.abs(relaxation_path(times, 2.0, 0.8, 0.5).numpy() - exact).max() < 1e-15


def discriminant(momentum, scaled, nesterov):
    """Of the recursion (X, C) → of theory 3.3 for pηλ = `scaled`."""
    look = momentum if nesterov else 1.0
    direct = scaled * (1 + momentum) if nesterov else scaled
    step = np.array([[1 - direct, -momentum * look], [scaled, momentum]])
    return np.trace(step) ** 2 - 4 * np.linalg.det(step)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.3, 0.8, 0.9, 0.99])
def test_thresholds_are_where_the_regime_changes(momentum, nesterov):
    discrete = oscillation_threshold(momentum, quadratic=False, nesterov=nesterov, discrete=True)
    assert discriminant(momentum, discrete * 0.999, nesterov) > 0 > discriminant(momentum, discrete * 1.001, nesterov)
    for quadratic in (False, True):
        threshold = oscillation_threshold(momentum, quadratic=quadratic, nesterov=nesterov)
        regimes = [
            normal_form(
                Hyperparameters(0.1, factor * threshold / 0.1, momentum, nesterov=nesterov), quadratic=quadratic
            )
            for factor in (0.999, 1.001)
        ]
        assert [form.regime for form in regimes] == ["overdamped", "underdamped"]
    assert oscillation_threshold(momentum, quadratic=True, discrete=True) == pytest.approx(
        (1 - momentum**0.5) ** 2 / 2, rel=1e-9
    )


def test_published_threshold_and_what_is_refused():
    assert oscillation_threshold(0.99, quadratic=False) == pytest.approx(2.5e-5, rel=0.01)
    with pytest.raises(ValueError, match=r"momentum is 1\.0"):
        oscillation_threshold(1.0, quadratic=False)
    with pytest.raises(ValueError, match="natural time step"):
        normal_form(Hyperparameters(0.0, 0.1, 0.9), quadratic=True)
