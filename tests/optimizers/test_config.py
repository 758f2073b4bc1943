"""One configuration for every optimiser, and one value for the hyperparameters of SGD."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from neuralmechanics.laws import Hyperparameters
from neuralmechanics.optimizers import OptimizerConfig, Setting, Sgd, read_setting
from neuralmechanics.optimizers.lamb import Lamb
from neuralmechanics.optimizers.make import make_optimizer


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        (
            OptimizerConfig(learning_rate=0.5, weight_decay=0.25, momentum=0.9, dampening=0.5),
            torch.optim.SGD,
            {"lr": 0.5, "weight_decay": 0.25, "momentum": 0.9, "dampening": 0.5, "nesterov": False},
        ),
        (
            OptimizerConfig("adam", betas=(0.5, 0.75), epsilon=0.1),
            torch.optim.Adam,
            {"lr": 0.1, "betas": (0.5, 0.75), "eps": 0.1, "weight_decay": 0.0},
        ),
        (OptimizerConfig("adamw", weight_decay=0.5), torch.optim.AdamW, {"weight_decay": 0.5, "eps": 1e-8}),
        (
            OptimizerConfig("rmsprop", momentum=0.5, epsilon=0.1),
            torch.optim.RMSprop,
            {"alpha": 0.99, "eps": 0.1, "momentum": 0.5},
        ),
        (OptimizerConfig("rmsprop", smoothing=0.5), torch.optim.RMSprop, {"alpha": 0.5, "momentum": 0.0}),
        (OptimizerConfig("lamb", epsilon=0.1), Lamb, {"lr": 0.1, "eps": 0.1, "betas": (0.9, 0.999)}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_optimizer_holds_what_is_configured(config: OptimizerConfig, kind: type, expected: dict[str, Any]) -> None:
    made = make_optimizer([nn.Parameter(torch.ones(1))], config)
    assert type(made) is kind
    assert {name: made.param_groups[0][name] for name in expected} == expected
    assert make_optimizer([nn.Parameter(torch.ones(1))], config, learning_rate=3.0).param_groups[0]["lr"] == 3.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoothing": 0.5}, "optimizer.smoothing belongs to rmsprop; smoothing has no meaning for sgd"),
        ({"name": "adam", "momentum": 0.9}, "optimizer.momentum belongs to sgd and rmsprop"),
        ({"name": "rmsprop", "smoothing": 1.0}, "optimizer.smoothing must be in [0, 1), got 1.0"),
        ({"name": "sgdd"}, "optimizer.name must be one of sgd, adam, adamw, rmsprop, lamb, got 'sgdd'"),
        ({"epsilon": 0.0}, "optimizer.epsilon must be positive, got 0.0"),
    ],
)
def test_what_would_be_ignored_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        OptimizerConfig(**settings)
    assert message in str(error.value)


def test_averaging_factors_stand_by_for_other_optimizers_of_a_grid() -> None:
    config = OptimizerConfig(betas=(0.5, 0.6))
    with pytest.raises(ValueError, match=r"optimizer\.betas belongs to adam, adamw and lamb; betas has no"):
        config.require_read()


def test_one_value_from_the_file_to_the_law() -> None:
    """What is configured, what torch holds and what a law is fed are the same fields with the same numbers."""
    config = OptimizerConfig(learning_rate=0.5, weight_decay=0.25, momentum=0.9, dampening=0.5)
    made = make_optimizer([nn.Parameter(torch.ones(1))], config)
    held = read_setting(made, made.param_groups[0])
    names = [field.name for field in fields(Sgd)]
    for kind in (Setting, Hyperparameters):
        assert issubclass(kind, Sgd)
        assert [field.name for field in fields(kind)][: len(names)] == names
    assert [getattr(held, name) for name in names] == [getattr(config.sgd, name) for name in names]
    with pytest.raises(ValueError, match="must be 'sgd', got 'adam'"):
        _ = OptimizerConfig("adam").sgd


@pytest.mark.parametrize(
    ("sgd", "step"),
    [(Sgd(0.5), 0.5), (Sgd(0.5, momentum=0.9, dampening=0.5), 0.25), (Sgd(0.5, dampening=0.5), 0.5)],
)
def test_time_passes_as_the_first_steps_of_a_constant_slope_show(sgd: Sgd[float], step: float) -> None:
    """h = η(1-α): the velocity of torch's SGD under a constant gradient tends to (1-α)g/(1-β)."""
    assert sgd.time_step == step
    x = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    made = torch.optim.SGD([x], lr=sgd.learning_rate, momentum=sgd.momentum, dampening=sgd.dampening)
    places = []
    for _ in range(400):
        x.grad = torch.ones_like(x)
        made.step()
        places.append(x.detach().item())
    assert places[-2] - places[-1] == pytest.approx(step / (1 - sgd.momentum), rel=1e-12)
