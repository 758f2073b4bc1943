"""The laws, fed by a monitor, against the charges that the monitor measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics import laws
from neuralmechanics.monitor import MonitorWarning

MODES: dict[str, dict[str, Any]] = {
    "plain": {"weight_decay": 1e-2},
    "heavy_ball": {"momentum": 0.9, "weight_decay": 1e-3},
    "dampened": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 1e-3},
    "nesterov": {"momentum": 0.95, "nesterov": True, "weight_decay": 1e-3},
    "nesterov_foreach": {"momentum": 0.9, "nesterov": True, "foreach": True},
    "maximize": {"momentum": 0.5, "maximize": True, "weight_decay": 1e-2, "lr": 1e-3},
}


def relative_error(run: nm.Run, law: str) -> float:
    data = run.data
    error = np.abs(data["predicted"].sel(law=law) - data["charge"]) / data["scale"]
    assert not np.isnan(error).any()
    return float(error.max())


@pytest.mark.parametrize("mode", MODES)
def test_exact_and_identity_reproduce_the_charges(training: Any, mode: str) -> None:
    optimizer = training.sgd(**MODES[mode])
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(30))
        optimizer.param_groups[0]["lr"] /= 10
        training.run(optimizer, range(30, 43))
    assert list(monitor.run.data["step"].values) == [*range(0, 41, 10), 43]
    for law in ("exact", "identity"):
        assert relative_error(monitor.run, law) < 1e-13
    assert float(np.nanmax(np.abs(monitor.run.data["residual"]))) < 1e-14


def test_momentum_off_and_on_again(training: Any) -> None:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        for start, momentum in ((0, 0.9), (30, 0.0), (60, 0.8)):
            optimizer.param_groups[0]["momentum"] = momentum
            training.run(optimizer, range(start, start + 30))
    assert relative_error(monitor.run, "exact") < 1e-13


def test_first_order_is_followed_without_momentum_only(training: Any) -> None:
    with nm.Monitor(training.model, training.sgd(), training.symmetries, strict=True) as monitor:
        pass
    assert "first_order" in monitor.run.data["law"]
    with nm.Monitor(training.model, training.sgd(momentum=0.1), training.symmetries, strict=True) as monitor:
        pass
    assert "first_order" not in monitor.run.data["law"]


def test_float32_identity(make: Callable[..., Any]) -> None:
    training = make("convnet", torch.float32)
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3, lr=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(60))
    errors = monitor.run.errors().set_index(["family", "kind", "law"])["max_error"]
    assert errors.xs("identity", level="law").max() < 1e-6


def test_batch_norm_eps_separates_exact_from_identity(make: Callable[..., Any]) -> None:
    training = make("convnet")
    training.model.features[1].eps = 1e-3
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(30))
    errors = monitor.run.errors(by="kind").set_index(["kind", "law"])["max_error"]
    assert errors["scale", "identity"] < 1e-13
    assert errors["scale", "exact"] > 1e-4
    assert errors["translation", "exact"] < 1e-13


def test_without_residuals_identity_is_nan_and_residuals_are_at_records(training: Any) -> None:
    optimizer = training.sgd(momentum=0.9)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=4, strict=True) as monitor:
        training.run(optimizer, range(10))
    data = monitor.run.data
    assert bool(np.isnan(data["predicted"].sel(law="identity")).all())
    assert list(np.isnan(data["residual"]).all("charge").values) == [True, False, False, False]
    assert "identity" not in set(monitor.run.errors()["law"])


UNEVEN: dict[str, dict[str, Any]] = {
    "plain": {"lr": 0.1},
    "heavy_ball": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "maximize": {"momentum": 0.5, "maximize": True, "lr": 1e-3},
}


def without_decay_on_vectors(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """The commonest groups there are: norms and biases do not decay."""
    params = list(model.parameters())
    return [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("mode", UNEVEN)
@pytest.mark.parametrize("network", ["mlp", "convnet"])
def test_charges_whose_parts_differ_in_decay_alone_keep_an_exact_law(
    make: Callable[..., Any], network: str, mode: str
) -> None:
    training = make(network)
    optimizer = torch.optim.SGD(without_decay_on_vectors(training.model, 0.05), **{"lr": 0.05, **UNEVEN[mode]})
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(40))
        optimizer.param_groups[1]["weight_decay"] = 0.05  # even from here on
        training.run(optimizer, range(40, 60))
    data = monitor.run.data
    mixed = np.isnan(data["weight_decay"].sel(step=30).values)
    assert mixed.sum() == {"mlp": 13, "convnet": 14}[network]
    assert not np.isnan(data["weight_decay"].values[-1]).any()
    assert relative_error(monitor.run, "identity") < 1e-13
    error = (np.abs(data["predicted"].sel(law="exact") - data["charge"]) / data["scale"]).values
    sound = [f.exact for f in training.symmetries.charged for _ in range(f.charges)]
    assert error[:, sound].max() < 1e-13
    # The other laws know of one decay a charge.
    assert np.isnan(data["predicted"].sel(law="gradient_flow", step=30).values[mixed]).all()
    assert not np.isnan(data["predicted"].sel(law="gradient_flow").values[:, ~mixed]).any()


def test_leaving_out_what_does_not_decay_would_be_wrong(training: Any) -> None:
    """The decay does move these charges: the law of an even λ is off by far more than rounding."""
    optimizer = torch.optim.SGD(without_decay_on_vectors(training.model, 0.05), lr=0.05, momentum=0.9)
    with nm.Monitor(training.model, optimizer, training.symmetries, drives=True, strict=True, every=1) as monitor:
        training.run(optimizer, range(40))
    history = monitor.run.drive_history()
    scale = torch.from_numpy(monitor.run.data["scale"].values)
    measured = torch.from_numpy(monitor.run.data["charge"].values)
    path = laws.replay(laws.ExactLaw(monitor.run.symmetries.quadratic), history)
    assert float(((path - measured).abs() / scale).max()) < 1e-13
    even = [replace(hyper, weight_decay=0.05) for hyper in history.hyperparameters]
    wrong = laws.replay(laws.ExactLaw(monitor.run.symmetries.quadratic), replace(history, hyperparameters=even))
    assert float(((wrong - measured).abs() / scale).max()) > 1e-3


def two_groups(model: nn.Sequential, **first: Any) -> list[dict[str, Any]]:
    return [
        {"params": list(model[0].parameters()), **first},
        {"params": [*model[2].parameters(), *model[4].parameters()]},
    ]


def halved(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.5


def stretched(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] *= 3


def stopped(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.0


def begun(optimizer: torch.optim.Optimizer) -> None:
    for group, rate in zip(optimizer.param_groups, (0.02, 0.07), strict=True):
        group["lr"] = rate


def evened(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.05


def regrouped(optimizer: torch.optim.Optimizer) -> None:
    one, two = optimizer.param_groups
    one["params"].append(two["params"].pop())


def weighed(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[1]["weight_decay"] = 0.2


RATES: dict[str, dict[int, Callable[[torch.optim.Optimizer], None]]] = {
    "kept": {},
    "a schedule of all": {8: halved, 21: halved},
    "a schedule of one": {13: stretched, 14: stretched},
    "from nothing": {0: stopped, 3: begun, 20: stopped, 24: begun},
    "even for a while": {11: evened, 22: begun},
    "regrouped": {11: regrouped},
    "with decay": {5: weighed},
}


@pytest.mark.parametrize(
    ("rates", "mode"),
    [("kept", mode) for mode in UNEVEN] + [(rates, mode) for rates in RATES for mode in ("heavy_ball", "nesterov")][2:],
)
@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.MonitorWarning")
def test_charges_whose_parts_differ_in_learning_rate_keep_a_measured_exact_law(
    make: Callable[..., Any], rates: str, mode: str
) -> None:
    """X ← X - 2ηx + W with x = βC + aΣ(η_p/η)(λ_p|θ_p|² + ρ_p), whatever the rates do."""
    training = make()
    optimizer = torch.optim.SGD(
        two_groups(training.model, lr=0.03), **{"lr": 0.07, "weight_decay": 1e-2, **UNEVEN[mode]}
    )
    if mode == "maximize":
        optimizer.param_groups[0]["lr"] = 4e-4
    with nm.Monitor(
        training.model, optimizer, training.symmetries, residuals=True, drives=True, every=6, strict=True
    ) as monitor:
        for step in range(32):
            RATES[rates].get(step, lambda _: None)(optimizer)
            training.run(optimizer, range(step, step + 1))
    data, run = monitor.run.data, monitor.run
    largest = np.maximum(np.abs(data["charge"].values).max(0), data["scale"].values)
    for law in ("exact", "identity"):
        assert (np.abs(data["predicted"].sel(law=law) - data["charge"]).values / largest).max() < 1e-12
    again = laws.replay(laws.ExactLaw(run.symmetries.quadratic), run.drive_history())
    assert float((np.abs(again[-1].numpy() - data["charge"].values[-1]) / largest).max()) < 1e-12
    (note,) = [note for note in run.warnings if "differ in learning rate" in note.message]
    assert "needs the residuals of the charge's parts" in note.message


def test_a_law_without_the_residuals_of_the_parts_would_be_wrong(training: Any) -> None:
    optimizer = torch.optim.SGD(two_groups(training.model, lr=0.03), lr=0.07, momentum=0.9)
    with (
        pytest.warns(MonitorWarning, match="differ in learning rate"),
        nm.Monitor(training.model, optimizer, training.symmetries, drives=True, strict=True) as monitor,
    ):
        training.run(optimizer, range(30))
    history, data = monitor.run.drive_history(), monitor.run.data
    even = [replace(hyper, weight_decay=0.0) for hyper in history.hyperparameters]
    drives = replace(history.drives, rated_pull=None, rated_velocity=None, rated_companion=None)
    wrong = laws.replay(
        laws.ExactLaw(monitor.run.symmetries.quadratic), replace(history, hyperparameters=even, drives=drives)
    )
    assert (np.abs(wrong[-1].numpy() - data["charge"].values[-1]) / data["scale"].values).max() > 1e-2


@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.MonitorWarning")
def test_two_optimisers_with_rates_of_their_own_keep_a_measured_exact_law(make: Callable[..., Any]) -> None:
    training = make()
    model: nn.Sequential = training.model
    one = torch.optim.SGD(model[0].parameters(), lr=0.02, momentum=0.9)
    two = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.05, momentum=0.9, weight_decay=1e-2)
    with nm.Monitor(model, [one, two], training.symmetries, residuals=True, every=5, strict=True) as monitor:
        for step in range(20):
            training.run(one, range(step, step + 1))
            two.step()
            two.zero_grad()
    assert relative_error(monitor.run, "exact") < 1e-12
    # A rate that changes between the two is one that the iteration did not begin with: withheld, with the reason.
    training = make()
    model = training.model
    one = torch.optim.SGD(model[0].parameters(), lr=0.02, momentum=0.9)
    two = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.05, momentum=0.9)
    with nm.Monitor(model, [one, two], training.symmetries, residuals=True, every=5, strict=True) as monitor:
        for step in range(20):
            training.run(one, range(step, step + 1))
            two.param_groups[0]["lr"] = 0.05 - 1e-3 * step
            two.step()
            two.zero_grad()
    exact = monitor.run.data["predicted"].sel(law="exact").values
    assert np.isnan(exact[-1]).sum() == 7
    assert "changed between the optimisers" in " ".join(note.message for note in monitor.run.warnings)
    assert relative_error(monitor.run, "identity") < 1e-12


def test_uneven_momentum_inside_a_charge_leaves_the_closed_laws_once(training: Any) -> None:
    model: nn.Sequential = training.model
    optimizer = torch.optim.SGD(two_groups(model, momentum=0.5), lr=0.1, momentum=0.9, weight_decay=1e-3)
    with (
        pytest.warns(MonitorWarning, match="differ in momentum") as caught,
        nm.Monitor(model, optimizer, training.symmetries, residuals=True, strict=True) as monitor,
    ):
        training.run(optimizer, range(50))
    assert len([w for w in caught if w.category is MonitorWarning]) == 1
    data = monitor.run.data
    exact = data["predicted"].sel(law="exact").isel(step=slice(1, None))
    left = np.isnan(exact).all("step").values
    assert left.sum() == 7
    assert not np.isnan(exact).any("step").values[~left].any()
    assert relative_error(monitor.run, "identity") < 1e-13
    rates = data["learning_rate"].isel(step=-1).values
    assert set(rates[~left]) == {0.1}


def test_strong_decay_is_exact_and_beyond_its_bound_is_said(make: Callable[..., Any]) -> None:
    for momentum, decay in ((0.0, 11.0), (0.0, 19.0), (0.5, 25.0), (0.9, 36.0)):
        training = make()
        optimizer = training.sgd(lr=0.1, momentum=momentum, weight_decay=decay)
        with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
            training.run(optimizer, range(40))
        data = monitor.run.data
        largest = np.maximum(np.abs(data["charge"].values).max(0), data["scale"].values)
        for law in ("exact", "identity"):
            error = np.abs(data["predicted"].sel(law=law) - data["charge"]).values
            assert (error / largest).max() < 1e-12
    training = make()
    optimizer = training.sgd(lr=0.1, momentum=0.5, weight_decay=31.0)
    with (
        pytest.warns(MonitorWarning, match=r"weight decay is 1.03 times what training can bear"),
        nm.Monitor(training.model, optimizer, training.symmetries, strict=True),
    ):
        training.run(optimizer, range(3))


def test_different_groups_that_cut_no_charge_keep_every_law(training: Any) -> None:
    model: nn.Sequential = training.model
    last = [model[4].weight]
    others = [p for p in model.parameters() if p is not last[0] and p is not model[4].bias]
    groups = [{"params": others}, {"params": last}, {"params": [model[4].bias], "lr": 0.01, "weight_decay": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(50))
    assert relative_error(monitor.run, "exact") < 1e-13
    assert sorted(np.unique(monitor.run.data["learning_rate"].isel(step=-1))) == [0.01, 0.1]


@pytest.mark.parametrize("residuals", [False, True])
def test_a_gradient_that_goes_missing_leaves_the_closed_laws(training: Any, residuals: bool) -> None:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    frozen = training.model[2].weight
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=residuals, strict=True) as monitor:
        training.run(optimizer, range(20))
        frozen.requires_grad_(False)
        frozen.grad = None
        with pytest.warns(MonitorWarning, match="got no gradient"):
            training.run(optimizer, range(20, 40))
    data = monitor.run.data
    exact = data["predicted"].sel(law="exact")
    left = np.isnan(exact.isel(step=-1)).values
    assert left.sum() == 13
    assert not np.isnan(exact.sel(step=20)).any()
    identity = data["predicted"].sel(law="identity")
    error = np.abs(identity - data["charge"]) / data["scale"]
    assert float(error.isel(step=slice(3, None)).isel(charge=left).max()) < 1e-13


def test_a_frozen_layer_is_not_moved_by_any_law(training: Any) -> None:
    for parameter in training.model.parameters():
        parameter.requires_grad_(False)
    training.model[4].bias.requires_grad_(True)
    optimizer = training.sgd(momentum=0.9, weight_decay=0.1)
    with nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor:
        training.run(optimizer, range(20))
    data = monitor.run.data
    still = np.flatnonzero(data["active"].isel(step=-1).values == 0)
    assert len(still) == 19
    assert np.array_equal(
        data["predicted"].sel(law="exact").isel(step=-1, charge=still), data["charge"].values[0, still]
    )


def test_other_optimisers_follow_the_identity(training: Any) -> None:
    optimizer = torch.optim.Adam(training.model.parameters(), lr=0.01, weight_decay=0.1)
    with (
        pytest.warns(MonitorWarning, match="Adam obeys no closed law"),
        nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor,
    ):
        training.run(optimizer, range(50))
    assert list(monitor.run.data["law"].values) == ["identity"]
    assert relative_error(monitor.run, "identity") < 1e-13
    assert bool(np.isnan(monitor.run.data["momentum"]).all())
    assert set(monitor.run.data["learning_rate"].values.flat) == {0.01}
    with pytest.raises(ValueError, match=r"holds for torch\.optim\.SGD alone"):
        nm.Monitor(training.model, optimizer, training.symmetries, laws=["exact"])


def test_closures_and_clipping(training: Any) -> None:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3, nesterov=True)
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        for step in range(40):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                x, y = training.batch(step)
                loss = nn.functional.cross_entropy(training.model(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(training.model.parameters(), 0.1)
                return loss

            optimizer.step(closure)
    assert relative_error(monitor.run, "exact") < 1e-13


def test_clipping_by_value_ends_exact_and_not_identity(training: Any) -> None:
    optimizer = training.sgd(momentum=0.9)

    def train(monitor: nm.Monitor) -> None:
        with monitor:
            for step in range(40):
                x, y = training.batch(step)
                optimizer.zero_grad()
                nn.functional.cross_entropy(training.model(x), y).backward()
                nn.utils.clip_grad_value_(training.model.parameters(), 1e-3)
                optimizer.step()

    monitor = nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True)
    with pytest.warns(MonitorWarning, match="does not obey the symmetry") as caught:
        train(monitor)
    assert relative_error(monitor.run, "identity") < 1e-13
    assert "is clipped by value" in str(caught[0].message)
    data = monitor.run.data
    exact = np.abs(data["predicted"].sel(law="exact") - data["charge"]) / data["scale"]
    assert np.isnan(exact.values[1:]).mean() > 0.7
    assert float(np.nanmax(exact)) < 1e-7  # right or withheld


@pytest.mark.parametrize("mode", ["plain", "heavy_ball", "nesterov"])
def test_every_law_replays_from_the_run(training: Any, store: Path, mode: str) -> None:
    optimizer = training.sgd(**MODES[mode])
    with nm.Monitor(training.model, optimizer, training.symmetries, store, drives=True, strict=True, every=7):
        training.run(optimizer, range(30))
        optimizer.param_groups[0]["lr"] = 0.01
        training.run(optimizer, range(30, 60))
    run = nm.open_run(store)
    history = run.drive_history()
    assert len(history) == 60
    quadratic = run.symmetries.quadratic
    names = {
        "exact": laws.ExactLaw(quadratic),
        "identity": laws.ExactLaw(quadratic, measured_residual=True),
        "modified_flow": laws.ModifiedFlowLaw(quadratic),
        "modified_loss": laws.ModifiedLossLaw(quadratic),
        "gradient_flow": laws.GradientFlowLaw(quadratic),
    }
    for name, law in names.items():
        path = laws.replay(law, history)[list(run.data["step"].values)]
        recorded = torch.from_numpy(run.data["predicted"].sel(law=name).values)
        assert torch.equal(path, recorded), name
    anything = laws.replay(laws.IdentityLaw(quadratic), history)[list(run.data["step"].values)]
    error = (anything - torch.from_numpy(run.data["charge"].values)).abs() / torch.from_numpy(run.data["scale"].values)
    assert float(error.max()) < 1e-13


def test_a_parameter_written_outside_the_optimiser_is_said_once(training: Any) -> None:
    optimizer = training.sgd()
    charges = []

    def train(monitor: nm.Monitor) -> None:
        with monitor:
            for begin in (0, 3, 6):
                training.run(optimizer, range(begin, begin + 3))
                charges.append(training.symmetries.charge(dict(training.model.named_parameters())).detach().numpy())
                with torch.no_grad():
                    training.model[0].weight.mul_(0.5)

    monitor = nm.Monitor(training.model, optimizer, training.symmetries, every=3, strict=True)
    with pytest.warns(MonitorWarning, match=r"by step 3 something other than the optimiser moved 7 charges") as caught:
        train(monitor)
    assert len(caught) == 1
    data = monitor.run.data
    for record, before in enumerate(charges, start=1):
        moved = data["charge"].values[record] - before
        assert np.allclose(data["outside"].values[record], moved, rtol=0, atol=1e-13)
    assert (np.abs(data["outside"].values[1:]) > 1e-3).sum() == 3 * 7
    assert relative_error(monitor.run, "exact") < 1e-13


def test_weights_loaded_after_the_monitor_was_made_are_those_that_count(training: Any) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor:
        training.model.load_state_dict({k: 2 * v for k, v in training.model.state_dict().items()})
        training.run(optimizer, range(12))
    assert relative_error(monitor.run, "exact") < 1e-13


@pytest.mark.parametrize("change", ["channels_last", "moved", "float"])
def test_a_model_that_is_changed_after_its_monitor_was_made(make: Callable[..., Any], change: str) -> None:
    """Memory format, device and type are those of the tensors that a step finds, not those of long ago."""
    training = make("conv")
    optimizer = training.sgd(momentum=0.9)
    monitor = nm.Monitor(training.model, optimizer, training.symmetries, every=1, residuals=True, strict=True)
    if change == "channels_last":
        training.model.to(memory_format=torch.channels_last)
    elif change == "float":
        training.model.float()
        training.dtype = torch.float32
    else:
        monitor._follower._meter._plans.clear()  # as where no parameter was on this device when it was made
    with monitor:
        training.run(optimizer, range(4))
    params = {name: p.detach() for name, p in training.model.named_parameters()}
    charge = monitor.run.data["charge"].values
    assert np.allclose(charge[-1], training.symmetries.charge(params), rtol=1e-12, atol=1e-12)
    assert np.abs(charge[-1] - charge[0]).max() > 1e-3
    assert relative_error(monitor.run, "identity") < (1e-5 if change == "float" else 1e-12)
