"""Norms that steps lengthen and decay shortens: each number from what one gradient does to SGD's steps afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralmechanics.laws.equilibrium import (
    Response,
    equilibrium_norm,
    equilibrium_rotation,
    gradient_over_norm,
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


WIDTH = 400


def under_noise(
    make: Callable[[list[Tensor]], torch.optim.Optimizer], rates: list[float], norm: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """|g|, |θ| and |d|² at each step of weights whose gradients are tangent noise over |θ|: ĝ² is 399."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
    weight = (weight * norm / weight.norm()).requires_grad_()
    optimizer, rows = make([weight]), []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        before = weight.detach().clone()
        noise = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        weight.grad = (noise - before * (noise @ before) / (before @ before)) / before.norm()
        optimizer.step()
        rows.append((float(weight.grad.norm()), float(before.norm()), float((weight.detach() - before).square().sum())))
    gradients, norms, energies = np.array(rows).T
    return gradients, norms, energies


@pytest.mark.parametrize("momentum", [pytest.param(0.0, marks=pytest.mark.slow), 0.8])
def test_gradients_grow_as_the_rate_falls(momentum: float) -> None:
    """|g|/|θ| is √(2λ(1-β)/η) before and after the rate is divided by 4, and |g| grows by 4^(1/4)."""
    fast, slow = Sgd(0.2 * (1 - momentum), 0.02, momentum), Sgd(0.05 * (1 - momentum), 0.02, momentum)
    norm = float(equilibrium_norm(fast, strength_of_noise(WIDTH - 1.0, fast), "gradient"))
    gradients, norms, _ = under_noise(
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.02, momentum=momentum),
        [fast.learning_rate] * 1000 + [slow.learning_rate] * 2500,
        norm,
    )
    early, late = slice(500, 1000), slice(3000, 3500)
    for hyper, rows in ((fast, early), (slow, late)):
        assert np.mean(gradients[rows] / norms[rows]) == pytest.approx(gradient_over_norm(hyper), rel=0.02)
    assert gradients[late].mean() / gradients[early].mean() == pytest.approx(4**0.25, rel=0.02)


@pytest.mark.parametrize("response", [pytest.param("gradient", marks=pytest.mark.slow), "normalised"])
def test_the_growth_of_gradients_over_a_cosine_is_told_from_its_first_fifth(response: Response) -> None:
    """SGD and AdamW under noise that is the same at unit norm: 1/|θ| as the law has it is 95 % of the growth."""
    steps, adam = 3000, response == "normalised"
    hyper = Sgd(0.01, 0.5, 0.9, decoupled=True) if adam else Sgd(0.2, 0.02)
    rates = [hyper.learning_rate * (1 + math.cos(math.pi * k / steps)) / 2 for k in range(steps)]

    def make(weights: list[Tensor]) -> torch.optim.Optimizer:
        if adam:
            return torch.optim.AdamW(weights, lr=0.01, weight_decay=0.5, betas=(0.9, 0.99))
        return torch.optim.SGD(weights, lr=0.2, weight_decay=0.02)

    gradients, norms, energies = under_noise(make, rates, 1.8 if adam else 6.0)
    rows, rate = slice(steps // 10, steps // 5), np.array(rates)
    size = norms**2 if not adam else np.ones(steps)
    strength = (energies * size)[rows].sum() / (rate[rows] ** 2).sum()
    # A step's decay of n is 2ηλ, and what it adds is η²K and what memory makes of it.
    n, told = norms[steps // 5] ** 2, []
    for η in rates[steps // 5 :]:
        told.append(math.sqrt(n))
        growth = η * η * strength * memory_gain(hyper)
        n = float(norm_after(n, 2 * η * hyper.weight_decay, growth, response))
    half, end = steps // 2, slice(steps - 150, steps)
    grown = math.log(gradients[end].mean() / gradients[half - 75 : half + 75].mean())
    first = steps // 5
    explained = math.log(np.mean(told[half - 75 - first : half + 75 - first]) / np.mean(told[-150:]))
    assert grown > 0.15
    assert explained == pytest.approx(grown, rel=0.05)
