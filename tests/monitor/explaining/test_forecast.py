"""Forecasts from a part of a training against its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.conftest import make_training
from tests.monitor.explaining.noise import followed

import neuralmechanics as nm
from neuralmechanics.experiments.config import OptimizerConfig, RecordConfig, TrainConfig
from neuralmechanics.experiments.training.loop import train
from neuralmechanics.laws.equilibrium import equilibrium_rotation
from neuralmechanics.optimizers import Sgd

# η, λ, β; then |θ|, its tolerance, and the angle of a step in equilibrium.
CASES: dict[str, tuple[Any, Sgd[float], float, float, float]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-3), Sgd(0.1, 5e-3), 7.948, 0.01, 0.03162),
    "heavy ball": (
        lambda p: torch.optim.SGD(p, lr=0.02, weight_decay=5e-3, momentum=0.9),
        Sgd(0.02, 5e-3, 0.9),
        9.452,
        0.02,
        0.01026,
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, betas=(0.0, 0.999)),
        Sgd(0.01, 0.1, decoupled=True),
        4.472,
        0.01,
        0.04472,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_from_the_first_tenth_against_the_end(name: str) -> None:
    make, hyper, norm, tolerance, angle = CASES[name]
    steps = {"sgd": 6000, "heavy ball": 12000, "adamw": 20000}[name]
    run, angles = followed(make, steps, norm=(0.8 if name == "adamw" else 0.6) * norm)
    told = run.forecast(learned_until=steps // 10)
    assert (told.step, told.to) == (steps // 10, steps)
    end = np.sqrt(run.data["charge"].to_numpy()[-1])
    assert abs(told.scales["equilibrium_norm"].mean() - norm) < tolerance
    assert abs(told.scales["norm_at_end"].mean() - norm) < tolerance
    assert np.abs(told.scales["norm_at_end"] / end - 1).max() < 0.01
    assert ((told.scales["low"] <= end) & (end <= told.scales["high"])).sum() >= 3
    assert abs(equilibrium_rotation(hyper) - angle) < 1e-5
    assert np.allclose(told.scales["equilibrium_rotation"], angle, rtol=2e-3)
    assert abs(float(angles.square().mean().sqrt()) / angle - 1) < 5e-3


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> nm.Run:
    """VGG-small with batch norm on digits."""
    config = TrainConfig(
        model="vgg-small-bn",
        data="digits",
        epochs=16,
        batch_size=32,
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=5e-3),
        record=RecordConfig(every=5, metrics=()),
    )
    folder = tmp_path_factory.mktemp("forecast") / "digits"
    train(config, folder)
    return nm.open_run(folder)


@pytest.mark.slow
def test_norms_of_a_network_from_the_first_third(digits: nm.Run) -> None:
    last = int(digits.data["step"][-1])
    told = digits.forecast(learned_until=last // 3)
    end = np.sqrt(digits.data["charge"].to_numpy()[-1][np.array(digits.symmetries.kinds) == "scale"])
    assert np.abs(told.scales["norm_at_end"] / end - 1).max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"learning_rate": 0.1}])
def test_intervals_hold_where_gradients_die_out(settings: dict[str, Any], tmp_path: Path) -> None:
    """A small network is fitted within the run, so that its noise at unit norm falls; 19 of 20 norms lie inside."""
    optimizer = OptimizerConfig(**{"learning_rate": 0.05, "weight_decay": 5e-3} | settings)
    train(TrainConfig(model="convnet-bn", epochs=20, optimizer=optimizer, record=RecordConfig(every=2)), tmp_path / "r")
    run = nm.open_run(tmp_path / "r")
    told = run.forecast(learned_until=int(run.data["step"][-1]) // 3)
    end = np.sqrt(run.data["charge"].to_numpy()[-1][np.array(run.symmetries.kinds) == "scale"])
    assert ((told.scales["low"] <= end) & (end <= told.scales["high"])).mean() >= 0.95
    assert (told.scales["high"] / told.scales["low"]).median() < 1.25


def test_numbers_that_are_changed_change_the_equilibrium_as_the_formulas_say() -> None:
    make, *_ = CASES["sgd"]
    run, _ = followed(make, 600, norm=6.0, rows=2, every=20)
    now, faster = run.forecast(), run.what_if(lr=0.4, weight_decay=0.01)
    # SGD n² = ηK/(2λ) in |θ|⁴, angle √(2ηλ).
    ratio = faster.scales["equilibrium_norm"] / now.scales["equilibrium_norm"]
    assert np.allclose(ratio, (0.4 / 0.1 / 2) ** 0.25, rtol=3e-3)
    assert np.allclose(faster.scales["equilibrium_rotation"], np.sqrt(2 * 0.4 * 0.01), rtol=3e-3)
    heavy = run.what_if(momentum=0.5)
    assert np.allclose(heavy.scales["equilibrium_rotation"], np.sqrt(2 * 0.1 * 5e-3 / 1.5), rtol=3e-3)
    still = run.what_if(schedule=lambda step: 0.0, to=1000)
    assert np.allclose(still.scales["norm_at_end"], still.scales["norm"])
    json.dumps(now.to_dict(), allow_nan=False)


def test_without_decay_norms_only_grow() -> None:
    run, _ = followed(lambda p: torch.optim.SGD(p, lr=0.5), 400, norm=2.0, rows=2, every=20)
    told = run.forecast(learned_until=200)
    end = np.sqrt(run.data["charge"].to_numpy()[-1])
    assert set(told.scales["regime"]) == {"no decay: only grows"}
    assert np.isinf(told.scales["equilibrium_norm"]).all()
    assert np.isinf(told.scales["steps_to_equilibrium"]).all()
    assert np.abs(told.scales["norm_at_end"] / end - 1).max() < 0.02


def test_half_lives_are_those_of_the_decay() -> None:
    training = make_training()
    optimizer = training.sgd(lr=0.05, momentum=0.8, weight_decay=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=10) as monitor:
        training.run(optimizer, range(80))
    told = monitor.run.forecast()
    rows = told.others.set_index("kind")["half_life"]
    assert np.allclose(rows["translation"], np.log(2) / (0.05 * 0.02 / 0.2))
    assert np.allclose(rows["rescale"], np.log(2) / (2 * 0.05 * 0.02 / 0.2))
    assert told.withheld == ("no weights of this model are scale-free",)


def test_an_optimiser_that_nothing_is_known_of_is_withheld_with_the_reason() -> None:
    class Odd(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    run, _ = followed(lambda p: Odd(p, lr=0.1), 60, norm=2.0, rows=2, every=10)
    told = run.forecast()
    assert not len(told.scales)
    assert told.withheld == ("nothing is known of how the steps of Odd depend on the norm of scale-free weights",)


def test_too_few_records_are_refused() -> None:
    run, _ = followed(CASES["sgd"][0], 20, norm=2.0, rows=2, every=10)
    with pytest.raises(ValueError, match="at least 4 records"):
        run.forecast()
