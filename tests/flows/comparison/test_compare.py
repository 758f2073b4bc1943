"""The optimiser against its models, sweeps, and the flows that are matched to torch's optimisers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from neuralmechanics.flows import GradientFlow, compare_flows, matching_flows, sweep_learning_rates

from ..problems import charges_of, network_loss, point, valley


def test_a_comparison_says_which_model_is_right() -> None:
    loss = network_loss("linear")
    charges = charges_of(loss, "linear")
    compared = compare_flows(
        loss,
        loss.theta0,
        optimizer=partial(torch.optim.SGD, lr=0.05, weight_decay=0.01),
        steps=20,
        symmetries=charges,
        every=5,
    )
    assert compared.times.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    names = ["gradient flow", "modified loss", "modified flow", "modified flow, order 2", "modified flow, order 4"]
    assert list(compared.flows) == names
    assert compared.best() == "modified flow, order 4"
    table = compared.summary()
    assert table.loc["gradient flow", "max_distance"] > 10 * table.loc["modified loss", "max_distance"]
    assert (table["reason"] == "completed").all()
    assert (table["max_charge_error"] > 0).all()
    frame = compared.to_frame()
    assert len(frame) == 5 * 5
    first = frame[frame.time == 0]
    assert np.allclose(first[["distance", "loss_difference", "charge_error"]], 0, atol=1e-14)
    name = "modified loss"
    mine = torch.cat([v[3].reshape(-1) for v in compared.optimizer.params.values()])
    theirs = torch.cat([v[3].reshape(-1) for v in compared.flows[name].params.values()])
    assert float(compared.distance[name][3]) == pytest.approx(float((mine - theirs).norm()))


def test_a_flow_that_stops_early_is_nan_and_never_best() -> None:
    flows = {
        "stuck": GradientFlow(lambda p: torch.sqrt(p["x"][0] - 0.999) + 0 * p["x"][1]),
        "good": GradientFlow(valley),
    }
    compared = compare_flows(
        valley, point(1, 1.6), optimizer=partial(torch.optim.SGD, lr=0.01), steps=10, flows=flows, step=0.005
    )
    assert compared.distance["stuck"].isnan().any()
    assert compared.best() == "good"
    assert compared.summary().loc["stuck", "reason"] == "not finite"


def test_momentum_sweep_measures_orders_of_every_model() -> None:
    sweep = sweep_learning_rates(
        valley,
        point(1.0, 1.6),
        optimizer=partial(torch.optim.SGD, momentum=0.3),
        learning_rates=(0.02, 0.01, 0.005),
        horizon=0.4,
    )
    orders = sweep.orders
    assert orders["gradient flow with momentum"] == pytest.approx(1, abs=0.15)
    assert orders["modified flow"] == pytest.approx(2, abs=0.25)
    table = sweep.to_frame()
    assert list(table.index) == ["0.02", "0.01", "0.005", "order"]
    assert table.loc["order", "modified flow"] == orders["modified flow"]
    with pytest.raises(ValueError, match=r"horizon 0\.4 is 57\.1429 steps"):
        sweep_learning_rates(valley, point(1, 1), optimizer=torch.optim.SGD, learning_rates=(0.007,), horizon=0.4)


def test_optimisers_without_a_model_are_refused() -> None:
    leaf = [torch.zeros(1, requires_grad=True)]
    with pytest.raises(ValueError, match="no flow models Adagrad"):
        matching_flows(valley, torch.optim.Adagrad(leaf))
    with pytest.raises(ValueError, match="amsgrad=True"):
        matching_flows(valley, torch.optim.Adam(leaf, amsgrad=True))
    groups = [{"params": leaf}, {"params": [torch.zeros(1, requires_grad=True)], "lr": 1.0}]
    with pytest.raises(ValueError, match="differ in hyperparameters"):
        matching_flows(valley, torch.optim.SGD(groups, lr=0.1))


def test_an_optimiser_that_blows_up_ends_the_run_with_a_reason() -> None:
    compared = compare_flows(
        lambda p: p["x"].pow(4).sum(), point(3.0), optimizer=partial(torch.optim.SGD, lr=1.0), steps=50,
        flows={"gradient flow": GradientFlow(lambda p: p["x"].pow(4).sum())},
    )  # fmt: skip
    assert str(compared.optimizer.reason) in ("exploded", "not finite")
    assert len(compared.times) < 51
