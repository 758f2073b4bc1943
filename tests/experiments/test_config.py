"""Configurations: equal from TOML, dictionaries and Python; every bad key or value refused in one line."""

from __future__ import annotations

import pytest

from neuralmechanics.experiments import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    load_config,
)


def test_toml_and_python_agree(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'model = "vgg-small-bn"\nepochs = 3\n[optimizer]\nlearning_rate = 1\nbetas = [0.8, 0.99]\n'
        '[schedule]\nname = "drops"\nmilestones = [1, 2.5]\n'
    )
    expected = TrainConfig(
        model="vgg-small-bn",
        epochs=3.0,
        optimizer=OptimizerConfig(learning_rate=1.0, betas=(0.8, 0.99)),
        schedule=ScheduleConfig("drops", milestones=(1.0, 2.5)),
    )
    assert load_config(path, TrainConfig) == expected
    assert config_from_dict(config_to_dict(expected), TrainConfig) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimiser": {}}, "unknown configuration key 'optimiser'; the nearest known key is 'optimizer'"),
        ({"schedule": {"milestone": [1]}}, "the nearest known key is 'schedule.milestones'"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate must be a positive number, got -1"),
        ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate must be of type float, got 'fast'"),
        ({"optimizer": {"learning_rate": True}}, "optimizer.learning_rate must be of type float, got True"),
        ({"optimizer": {"name": "sdg"}}, "optimizer.name must be one of sgd, adam"),
        ({"optimizer": 3}, "optimizer must be a table, got 3"),
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas must have 2 entries"),
        ({"optimizer": {"nesterov": True}}, "optimizer.nesterov needs optimizer.momentum > 0"),
        ({"optimizer": {"name": "adam", "momentum": 0.9}}, "optimizer.momentum belongs to sgd and rmsprop"),
        ({"schedule": {"name": "drops"}}, "needs schedule.milestones"),
        ({"schedule": {"name": "drops", "milestones": [2, 1]}}, "schedule.milestones must be rising"),
        ({"epochs": float("nan")}, "epochs must be positive, got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"record": {"metrics": ["speed"]}}, "record.metrics must be one of performance"),
        ({"checkpoint_every": 15}, "checkpoint_every must be a multiple of record.every = 10, got 15"),
        ({"record": {"every": 0}}, "record.every must be at least 1, got 0"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError) as error:
        config_from_dict(values, TrainConfig)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no configuration file"):
        load_config(tmp_path / "absent.toml", TrainConfig)
    (tmp_path / "broken.toml").write_text("model = ")
    with pytest.raises(ValueError, match="not valid TOML"):
        load_config(tmp_path / "broken.toml", TrainConfig)
    with pytest.raises(ValueError, match="is a folder"):
        load_config(tmp_path, TrainConfig)
