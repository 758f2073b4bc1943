"""Forecasts from a part of a training against its end."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.monitor.conftest import make_training
from tests.monitor.explaining.noise import followed
from torch import nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.experiments.config import OptimizerConfig, RecordConfig, TrainConfig
from neuralmechanics.experiments.training.loop import train
from neuralmechanics.laws.equilibrium import Response, alignment, equilibrium_rotation
from neuralmechanics.monitor.explaining.forecasting.forecast import _scales, _surprise
from neuralmechanics.monitor.explaining.forecasting.learning import Learned
from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion, motion_of
from neuralmechanics.monitor.explaining.forecasting.paths import path_of
from neuralmechanics.monitor.explaining.forecasting.settings import Ahead
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


@pytest.mark.parametrize("falls", [pytest.param("before and after", marks=pytest.mark.slow), "after"])
def test_a_decay_that_has_a_schedule_is_followed(falls: str) -> None:
    """λ falls to a quarter: norms go to √2 of what they were (SGD, λ^-1/4), told from before the fall or within it."""
    begins = 100 if falls == "before and after" else 320

    def change(step: int, optimizer: torch.optim.Optimizer) -> None:
        part = min(max((step - begins) / 400, 0.0), 1.0)
        optimizer.param_groups[0]["weight_decay"] = 0.04 * (1 - 0.75 * part)

    run, _ = followed(lambda p: torch.optim.SGD(p, lr=0.1), 1000, norm=4.7, rows=2, every=20, change=change)
    told = run.forecast(learned_until=300)
    end = np.sqrt(run.data["charge"].to_numpy()[-1])
    assert end.min() > 1.25 * 4.7
    assert np.abs(told.scales["norm_at_end"] / end - 1).max() < 0.02
    # What is changed from here on holds at once, and stays.
    other = run.what_if(weight_decay=0.04, to=3000)
    assert np.allclose(other.scales["equilibrium_rotation"], np.sqrt(2 * 0.1 * 0.04), rtol=5e-3)
    still = run.what_if(schedule=lambda step: 0.1, to=3000)
    assert np.allclose(still.scales["equilibrium_rotation"], np.sqrt(2 * 0.1 * 0.01), rtol=5e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-2, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.5),
    ],
)
def test_a_dead_unit_only_decays(make: Any) -> None:
    """Its steps are those of decay alone: no noise holds its norm anywhere."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].bias[0] = -50.0
    symmetries = nm.find_symmetries(model, torch.randn(16, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nm.monitor.MonitorWarning)  # AdamW obeys no closed law
        with nm.Monitor(model, optimizer := make(model.parameters()), symmetries, every=5) as monitor:
            for _ in range(240):
                optimizer.zero_grad()
                x = torch.randn(32, 5)
                functional.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
                optimizer.step()
    told = monitor.run.forecast(learned_until=120).scales
    end = np.sqrt(monitor.run.data["charge"].sel(charge=monitor.run.data["label"] == "0.weight[0]").to_numpy()[-1, 0])
    dead = told[told["label"] == "0.weight[0]"].iloc[0]
    assert abs(dead["norm_at_end"] / end - 1) < 0.03
    assert dead["regime"] == "no gradient: only decays"
    assert np.isnan(dead["equilibrium_norm"])
    assert (told["equilibrium_norm"].notna().sum(), len(told)) == (3, 4)
    monitor.run.what_if(momentum=0.5)  # warnings are errors


def test_without_decay_norms_only_grow() -> None:
    run, _ = followed(lambda p: torch.optim.SGD(p, lr=0.5), 400, norm=2.0, rows=2, every=20)
    told = run.forecast(learned_until=200)
    end = np.sqrt(run.data["charge"].to_numpy()[-1])
    assert set(told.scales["regime"]) == {"no decay: only grows"}
    assert np.isinf(told.scales["equilibrium_norm"]).all()
    assert np.isinf(told.scales["steps_to_equilibrium"]).all()
    assert np.abs(told.scales["norm_at_end"] / end - 1).max() < 0.02


@pytest.mark.parametrize("dampening", [0.0, 0.25])
def test_half_lives_are_those_of_the_decay(dampening: float) -> None:
    training = make_training()
    optimizer = training.sgd(lr=0.05, momentum=0.8, dampening=dampening, weight_decay=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=10) as monitor:
        training.run(optimizer, range(80))
    told = monitor.run.forecast()
    rows = told.others.set_index("kind")["half_life"]
    assert np.allclose(rows["translation"], np.log(2) / (0.05 * (1 - dampening) * 0.02 / 0.2))
    assert np.allclose(rows["rescale"], np.log(2) / (2 * 0.05 * (1 - dampening) * 0.02 / 0.2))
    assert told.withheld == ("no weights of this model are scale-free",)


@pytest.mark.parametrize(("nesterov", "gain"), [(False, 9.0), (True, 1 + 2 * 0.64 * alignment(0.8) / 0.2)])
def test_noise_holds_rescale_charges_where_decay_takes_what_steps_add(nesterov: bool, gain: float) -> None:
    """|d|² of a step, signed as the charge is, times the memory's gain, over the rate of the decay."""
    training = make_training()
    optimizer = training.sgd(lr=0.05, momentum=0.8, nesterov=nesterov, weight_decay=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=10) as monitor:
        training.run(optimizer, range(80))
    told = monitor.run.forecast().others.set_index("family")["settles_at"]
    books = monitor.run.budget()["change"].sel(part="finite_step", step=slice(50, None))
    rescale = books.isel(charge=np.flatnonzero(books["kind"] == "rescale"))
    energy = np.abs(rescale.sum("step") / 40).groupby("family").median()
    assert np.allclose(told.loc[energy["family"].to_numpy()], energy * gain / (2 * 0.05 * 0.02 / 0.2), rtol=1e-12)
    assert told.drop(energy["family"].to_numpy()).isna().all()  # translations lose all to decay


def test_an_optimiser_that_nothing_is_known_of_is_withheld_with_the_reason() -> None:
    class Odd(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    run, _ = followed(lambda p: Odd(p, lr=0.1), 60, norm=2.0, rows=2, every=10)
    told = run.forecast()
    assert not len(told.scales)
    assert told.withheld == ("nothing is known of how the steps of Odd depend on the norm of scale-free weights",)


@pytest.mark.parametrize("response", ["gradient", "normalised"])
def test_the_interval_of_an_equilibrium_is_that_of_its_noise(response: Response) -> None:
    """Its ends are where |θ| settles for ln K two standard errors above and below: K^¼ of gradients, else K^½."""

    def settled(shift: float) -> pd.DataFrame:
        strength, none = np.array([0.3, 7.0]) * np.exp(shift), np.zeros(2)
        known = Learned(
            step=100,
            squared=np.array([4.0, 9.0]),
            strength=strength,
            gain=none + 1,
            decay=none + 0.01,
            trend=none,
            rate_at=none + 0.1,
            spread=np.array([0.2, 0.5]),
            trend_spread=none,
            falls=none > 0,
            recent=none + 1,
        )
        motion = Motion(response, Sgd(0.1, 5e-3), follows_sgd=response == "gradient", gain=1.0)
        one = np.ones(1)
        ahead = Ahead(np.array([200]), 100 * one, 100 * one, one, one)
        names = {name: np.array(["a", "b"]) for name in ("layer", "family", "label")}
        return _scales(motion, known, ahead, names, None)[0].set_index("label")

    told = settled(0.0)
    for place, spread in (("a", 0.2), ("b", 0.5)):
        for end, sign in (("equilibrium_low", -1), ("equilibrium_high", 1)):
            expected = settled(sign * 2 * spread)["equilibrium_norm"][place]
            assert told[end][place] == pytest.approx(expected, rel=1e-12)


def test_what_a_forecast_missed_in_the_past_is_told_per_doubling_of_steps() -> None:
    """Records from 210 to 300 are lost: what was missed from 210 to 450, over log₂(450/210), is the surprise."""
    run, _ = followed(CASES["sgd"][0], 450, norm=6.0, rows=3, every=30)
    half, steps = 210, [s for s in run.data["step"].to_numpy() if s <= 210 or s >= 300]
    data, books = run.data.sel(step=steps), run.budget().sel(step=steps[1:])
    found = _surprise(books, data, motion_of(run.config), np.arange(3), 450, np.array(["f", "f", "g"]))
    assert found is not None
    told = run.forecast(450, learned_until=half).scales["norm_at_end"].to_numpy()
    missed = np.log(told / np.sqrt(run.data["charge"].sel(step=450).to_numpy())) / np.log2(450 / half)
    assert found == pytest.approx([np.sqrt((missed[:2] ** 2).mean())] * 2 + [abs(missed[2])], rel=1e-6)


def test_the_turn_of_a_step_does_not_depend_on_how_often_is_recorded() -> None:
    """√(|d|²/n) of the steps themselves, from copies of the weights, as root mean square over each interval."""
    run, angles = followed(CASES["sgd"][0], 200, norm=6.0, rows=2, every=20)
    told = run.turning()
    assert told["step"].to_numpy().tolist() == list(range(20, 201, 20))
    right = angles.square().reshape(10, 20, 2).mean(1).sqrt().numpy()
    assert np.abs(told["rotation"].to_numpy() / right - 1).max() < 0.01
    rate = told["effective_learning_rate"].to_numpy()
    assert np.allclose(rate, 0.1 / run.data["charge"].sel(step=told["step"]).to_numpy(), rtol=1e-12)


def test_too_few_records_are_refused() -> None:
    run, _ = followed(CASES["sgd"][0], 20, norm=2.0, rows=2, every=10)
    with pytest.raises(ValueError, match="at least 4 records"):
        run.forecast()


@pytest.mark.parametrize(("response", "second"), [("normalised", 0.999), ("normalised", 0.0), ("gradient", 0.0)])
def test_steps_that_shorten_a_norm_leave_none_that_is_known(response: Any, second: float) -> None:
    """A measured growth below zero, as of a few steps whose updates lie along -θ: it ends before the norm does."""
    one, none = np.ones(2), np.zeros(2)
    gain = np.array([1.0, -1.0])
    known = Learned(100, one, one, gain, none, none, 0.1 * one, 0.1 * one, none, none > 0, one)
    steps = np.array([110, 150, 400])
    ahead = Ahead(steps, np.zeros(3), (steps - 100.0), np.ones(3), np.ones(3))
    motion = Motion(response, Sgd(0.1), follows_sgd=response == "gradient", gain=None, second=second)
    growing, shrinking = path_of(motion, known, ahead, 0.0).T
    assert np.isfinite(growing).all()
    assert (np.diff(growing) > 0).all()
    assert np.isfinite(shrinking[0])
    assert np.isnan(shrinking[-1])
