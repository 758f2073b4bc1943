"""Norms that steps lengthen and decay shortens: each number from what one gradient does to SGD's steps afterwards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neuralmechanics.laws.equilibrium import (
    Response,
    equilibrium_norm,
    equilibrium_rotation,
    memory_gain,
    norm_after,
    relaxation_rate,
    settled_norm,
    steps_until,
    strength_of_noise,
)
from neuralmechanics.optimizers import Sgd

SETTINGS = {
    "plain": Sgd(0.5),
    "heavy ball": Sgd(0.5, momentum=0.9),
    "dampened": Sgd(0.5, momentum=0.8, dampening=0.4),
    "nesterov": Sgd(0.5, momentum=0.9, nesterov=True),
}


def echo(hyper: Sgd[float]) -> list[float]:
    """Torch's steps after one gradient of size 1, in units of the rate; a gradient of 0 takes the undampened first."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    options = {"momentum": hyper.momentum, "dampening": hyper.dampening, "nesterov": hyper.nesterov}
    optimizer = torch.optim.SGD([weight], lr=hyper.learning_rate, **options)
    places = []
    for gradient in (0.0, 1.0, *[0.0] * 400):
        places.append(float(weight.detach()))
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    return (-np.diff([*places, float(weight.detach())]) / hyper.learning_rate).tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_of_uncorrelated_gradients_are_echoes_that_overlap(name: str) -> None:
    """|d|² adds up over the echo; a norm grows by the square of its sum, which memory makes so many times |d|²."""
    hyper = SETTINGS[name]
    steps = echo(hyper)
    energy = sum(step**2 for step in steps)
    assert strength_of_noise(1.0, hyper) == pytest.approx(energy, rel=1e-12)
    assert memory_gain(hyper) == pytest.approx(sum(steps) ** 2 / energy, rel=1e-12)


@pytest.mark.parametrize("response", ["gradient", "normalised"])
@pytest.mark.parametrize("start", [0.3, 4.0])
def test_the_time_to_an_equilibrium_is_the_time_after_which_it_is_there(response: Response, start: float) -> None:
    """|θ| is 5 % away from where it settles after just so many steps, from below and from above."""
    rate, settled = 1e-3, 1.7
    growth = rate * settled ** (4 if response == "gradient" else 2)
    assert float(settled_norm(rate, growth, response)) == pytest.approx(settled, rel=1e-12)
    steps = steps_until(np.array([start**2]), np.array([settled**2]), np.array([rate]), response)
    norm = math.sqrt(norm_after(start**2, rate * float(steps[0]), growth * float(steps[0]), response))
    assert norm == pytest.approx(settled * (1.05 if start > settled else 0.95), rel=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_in_equilibrium_the_turn_of_a_step_is_its_length_over_the_norm(name: str) -> None:
    """√(|d|²/n) with |d|² = η²K/n at the norm where decay takes what steps add, whatever K is: slow decay."""
    sgd = SETTINGS[name]
    hyper = Sgd(sgd.learning_rate, 1e-7, sgd.momentum, sgd.dampening, sgd.nesterov)
    for energy in (0.1, 30.0):
        strength = strength_of_noise(energy, hyper)
        n = float(equilibrium_norm(hyper, strength, "gradient")) ** 2
        assert hyper.learning_rate * math.sqrt(strength) / n == pytest.approx(equilibrium_rotation(hyper), rel=1e-6)
        assert relaxation_rate(hyper) * n**2 == pytest.approx(hyper.learning_rate**2 * strength * memory_gain(hyper))
