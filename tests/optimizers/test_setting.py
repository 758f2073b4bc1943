"""Settings of a group as they are compared: numbers by value, tensors by identity."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from neuralmechanics.optimizers.hyperparameters.setting import read_setting


def test_tensors_are_told_apart_and_numbers_are_not() -> None:
    """Two rates that live on a device may differ at any later step, though nobody on the host sees it."""
    sgd = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    setting = read_setting(sgd, sgd.param_groups[0])
    one, other = torch.tensor(0.1), torch.tensor(0.1)
    assert replace(setting, learning_rate=one).key == replace(setting, learning_rate=one).key
    assert replace(setting, learning_rate=one).key != replace(setting, learning_rate=other).key
    assert replace(setting, learning_rate=one).key != setting.key
    assert replace(setting, learning_rate=0.2 / 2).key == setting.key
    assert replace(setting, learning_rate=0.2).key != setting.key
