"""The exact law where closed forms fail: rounding alone remains once the eps of the norms is counted in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuralmechanics.experiments import (
    ImageConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    eps_errors,
    set_norm_eps,
    train,
)
from neuralmechanics.experiments.config import RecordConfig
from neuralmechanics.experiments.norm_eps import eps_residual
from neuralmechanics.monitor import open_run
from neuralmechanics.symmetry import find_symmetries

BOUND = 1e-5
LONG = (pytest.mark.slow, pytest.mark.timeout(1800))
SETTINGS = {
    "drop": (OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3), {"unit": "step", "name": "drops"}),
    "dampening": (OptimizerConfig(learning_rate=0.05, momentum=0.9, dampening=0.5, weight_decay=1e-3), {}),
    "nesterov": (OptimizerConfig(learning_rate=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3), {}),
    "stiff": (OptimizerConfig(learning_rate=0.01, momentum=0.99, weight_decay=5e-4), {}),
}


def small_net(name: str, model: str, steps: int) -> TrainConfig:
    optimizer, schedule = SETTINGS[name]
    if schedule:
        schedule = schedule | {"milestones": (steps / 2,)}
    return TrainConfig(
        model=model,
        steps=steps,
        batch_size=64,
        precision="float64",
        optimizer=optimizer,
        schedule=ScheduleConfig(**schedule),
    )


SHORT = [("drop", 100), ("dampening", 100), ("nesterov", 100)]
TWENTY_THOUSAND = pytest.param("stiff", 20_000, marks=LONG)


@pytest.mark.parametrize(("name", "steps"), [*SHORT, ("stiff", 200), TWENTY_THOUSAND])
def test_without_norms_the_exact_law_is_exact(name, steps):
    plain = eps_errors(small_net(name, "mlp", steps))
    assert set(plain["kind"]) == {"translation", "rescale"}
    assert plain[["exact", "exact + eps", "identity"]].to_numpy().max() < 1e-10


@pytest.mark.parametrize(("name", "steps"), [*SHORT, ("stiff", 200), TWENTY_THOUSAND])
def test_the_exact_law_is_off_by_eps_alone(name, steps):
    config = small_net(name, "mlp-bn", steps)
    usual = eps_errors(config).set_index("kind")
    without = eps_errors(config, norm_eps=1e-12).set_index("kind")
    assert set(usual.index) == {"translation", "scale", "rescale"}
    assert usual["exact + eps"].max() < 1e-10
    assert without["exact"].max() < 1e-8 < BOUND
    assert usual.loc["scale", "exact"] > BOUND
    # The breaking is of first order in eps: 1e-7 of it is left.
    ratio = without.loc["scale", "exact"] / usual.loc["scale", "exact"]
    assert 0.5e-7 < ratio < 2e-7


def test_the_errors_are_those_of_a_monitored_training(tmp_path):
    config = TrainConfig(
        model="mlp-bn",
        steps=40,
        batch_size=32,
        precision="float64",
        optimizer=OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
        record=RecordConfig(every=10, residuals=True),
    )
    train(config, tmp_path / "run")
    recorded = open_run(tmp_path / "run").errors(by="kind").query("law == 'exact'")
    followed = eps_errors(config).set_index("kind")["exact"]
    for kind, error in zip(recorded["kind"], recorded["max_error"], strict=True):
        assert error == pytest.approx(followed[kind], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("model", ["conv", "instance", "group"])
def test_the_formula_is_the_residual(model):
    norm = {"conv": nn.BatchNorm2d(6), "instance": nn.InstanceNorm2d(6, affine=True), "group": nn.GroupNorm(3, 6)}
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3), norm[model], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).double()
    set_norm_eps(network, 0.1)
    batch = (torch.randn(8, 2, 7, 7, dtype=torch.float64), torch.arange(8) % 4)

    def loss_of(network, batch):
        return nn.functional.cross_entropy(network(batch[0]), batch[1])

    symmetries = find_symmetries(network, batch, loss_of)
    with eps_residual(network, symmetries) as formula:
        loss_of(network, batch).backward()
        predicted = formula.take()
    params = {name: p.detach() for name, p in network.named_parameters()}
    measured = symmetries.pair({name: p.grad for name, p in network.named_parameters()}, params)
    broken = torch.tensor([kind == "scale" for kind in symmetries.kinds])
    assert broken.any()
    assert measured[broken].abs().min() > 1e-6
    torch.testing.assert_close(predicted, measured, rtol=1e-10, atol=1e-15)


def test_an_eps_without_a_formula_is_nan_not_zero():
    # Two images in one batch-norm statistic whose family counts channels otherwise: nothing to attribute.
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    batch = (torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 2)

    def loss_of(network, batch):
        return nn.functional.cross_entropy(network(batch[0]), batch[1])

    symmetries = find_symmetries(network, batch, loss_of)
    with eps_residual(network, symmetries) as formula:
        unseen = formula.take()  # no backward pass yet
    scale = torch.tensor([kind == "scale" for kind in symmetries.kinds])
    assert unseen[scale].isnan().all()
    assert (unseen[~scale] == 0).all()


def test_only_sgd_has_an_exact_law():
    config = TrainConfig(optimizer=OptimizerConfig("adam", learning_rate=1e-3), images=ImageConfig(train_limit=64))
    with pytest.raises(ValueError, match=r"optimizer\.name must be 'sgd'"):
        eps_errors(config)
    with pytest.raises(ValueError, match="must be positive, got 0"):
        set_norm_eps(nn.BatchNorm1d(2), 0.0)
    with pytest.raises(ValueError, match="every must be at least 1"):
        eps_errors(TrainConfig(), every=0)
