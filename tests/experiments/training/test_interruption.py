"""SIGKILL in the middle of a monitored training: resumed, it ends in the same parameters, bit for bit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from tests.children import loaded
from tests.experiments.training.commands import command

from neuralmechanics.experiments import load_config, train
from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.experiments.training.runfolder import CHECKPOINTS
from neuralmechanics.monitor import open_run

# Batch norm has buffers, dropout draws from torch's random state: both must come back.
MODEL = """
import os, time
from torch import nn

class Waiting(nn.Module):
    '''Where it is asked to, stops in the first step after the third checkpoint, so as to be killed there.'''

    def forward(self, x):
        while "WAIT_FOR" in os.environ and os.path.exists(os.environ["WAIT_FOR"]):
            time.sleep(0.1)
        return x

def make(classes):
    convolution = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(convolution, nn.Flatten(), nn.Dropout(0.5), Waiting(), nn.Linear(288, classes))
"""
CONFIG = """
model = "droppy:make"
batch_size = 32
steps = 60
checkpoint_every = 10
[optimizer]
learning_rate = 0.01
momentum = 0.9
weight_decay = 1e-3
[images]
augment = true
train_limit = 320
test_limit = 20
[record]
every = 10
residuals = true
"""


def test_resume_after_sigkill_is_bitwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "droppy.py").write_text(MODEL)
    (tmp_path / "run.toml").write_text(CONFIG)
    config = load_config(tmp_path / "run.toml", TrainConfig)
    whole = train(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    checkpoint = killed / CHECKPOINTS / "step-000000030.pt"
    words = ["train", "run.toml", "--out", "killed"]
    process = loaded().Process(target=command, args=(words, {"WAIT_FOR": str(checkpoint)}))
    process.start()
    try:
        while not checkpoint.exists():
            assert process.is_alive(), "the training ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    assert not (killed / "result.json").exists()
    parts = train(config, killed, resume=True)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert parts.performance == whole.performance
    first, second = (open_run(folder).data for folder in (tmp_path / "whole", killed))
    assert first["step"].values.tolist() == second["step"].values.tolist()
    assert second["charge"].values == pytest.approx(first["charge"].values, rel=1e-12)
    identity = open_run(killed).errors().query("law == 'identity'")
    assert identity["max_error"].max() < 1e-5


def test_checkpoints_beyond_two_are_removed(tmp_path):
    (tmp_path / "run.toml").write_text(
        CONFIG.replace("droppy:make", "mlp").replace("steps = 60", "steps = 40") + "enabled = false\n"
    )
    train(load_config(tmp_path / "run.toml", TrainConfig), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir())
    assert names == ["step-000000030.pt", "step-000000040.pt"]
    assert Path(tmp_path / "run" / "result.json").exists()
