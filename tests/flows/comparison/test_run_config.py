"""Comparisons from a TOML file, for a model that the caller resolves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from neuralmechanics.flows import read_config, run_config


def _resolve(target: str, *, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    assert target == "mine"
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(input_shape[0], 4), nn.ReLU(), nn.Linear(4, classes))


def _resolve_smooth(target: str, *, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(input_shape[0], 4), nn.Tanh(), nn.Linear(4, classes))


CONFIG = """
model = "mine"
input_shape = [3]
classes = 2
examples = 8
steps = 8
every = 4
learning_rates = [0.2, 0.1]
[optimizer]
learning_rate = 0.2
momentum = 0.5
dampening = 0.25
"""


def test_a_file_becomes_a_report(tmp_path: Path) -> None:
    pytest.importorskip("neuralmechanics.symmetry")
    path = tmp_path / "flow.toml"
    path.write_text(CONFIG)
    report = run_config(path, _resolve)
    assert report.comparison.times.tolist() == pytest.approx([0, 0.6, 1.2])
    drift = report.drift()
    assert drift is not None
    assert set(drift.columns) == {"translation", "rescale"}
    assert drift.loc["gradient flow with momentum", "rescale"] < 1e-3 < drift.loc["SGD", "rescale"]
    assert report.sweep is not None
    errors = report.sweep.errors
    assert (errors["modified flow"] < errors["gradient flow with momentum"]).all()
    text = report.describe()
    assert "mine: 8 steps of sgd, η = 0.2" in text
    assert "measured order" in text
    assert {file.name for file in report.save(tmp_path / "out")} == {
        "distances.csv", "summary.csv", "drift.csv", "sweep.csv",
    }  # fmt: skip


def test_the_configured_sweep_measures_the_orders(tmp_path: Path) -> None:
    """On a smooth network without momentum the slopes are the flows' orders.

    With momentum the largest error sits in the first steps, where a memory that forgets by β is modelled by one that
    forgets by exp(-2(1-β)/(1+β)): O(h) there, O(h²) after it; so the report above only ranks the two.
    """
    path = tmp_path / "flow.toml"
    text = CONFIG.replace("[0.2, 0.1]", "[0.1, 0.05, 0.025]").replace("learning_rate = 0.2", "learning_rate = 0.1")
    text = text.replace("momentum = 0.5\ndampening = 0.25\n", "")
    path.write_text(text.replace("classes = 2", "classes = 2\nsymmetries = false"))
    sweep = run_config(path, _resolve_smooth).sweep
    assert sweep is not None
    for name, order in {
        "gradient flow": 1,
        "modified loss": 2,
        "modified flow": 2,
        "modified flow, order 4": 4,
    }.items():
        assert sweep.orders[name] == pytest.approx(order, abs=0.2), name


def test_data_of_ones_own(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"inputs": torch.ones(4, 3), "targets": torch.zeros(4, 2)}, tmp_path / "batch.safetensors")
    path = tmp_path / "flow.toml"
    path.write_text(
        'model = "mine"\ninput_shape = [3]\nclasses = 2\nsteps = 2\nevery = 1\nloss = "mse"\nsymmetries = false\n'
        'data = "batch.safetensors"\n[optimizer]\nname = "adam"\nbetas = [0.5, 0.6]\nepsilon = 0.1\n'
        "learning_rate = 0.01\n"
    )
    report = run_config(path, _resolve)
    with torch.no_grad():
        expected = float(_resolve("mine", input_shape=(3,), classes=2, seed=0)(torch.ones(4, 3)).square().mean())
    assert report.drift() is None
    assert list(report.comparison.flows) == ["Adam flow, leading order", "Adam flow"]
    assert float(report.comparison.optimizer.losses[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('model = "mine"\nstep = 3', "unknown configuration key 'step'.*'steps'"),
        ("input_shape = [3]\nclasses = 2", "lacks 'model'"),
        (CONFIG.replace("steps = 8", "steps = 0"), "steps is 0"),
        (CONFIG.replace("steps = 8", 'steps = "8"'), "steps must be of type int, got '8'"),
        (CONFIG.replace("momentum = 0.5", "betas = [0.5, 0.6]"), "betas has no meaning for sgd"),
        (CONFIG.replace("momentum = 0.5", "momentun = 0.5"), r"unknown configuration key 'optimizer\.momentun'"),
        (CONFIG.replace("momentum = 0.5", 'name = "sgdd"'), "optimizer.name must be one of sgd, adam"),
        (CONFIG.replace("input_shape = [3]", "input_shape = 3"), "input_shape must be a list"),
        (CONFIG.replace("momentum = 0.5\ndampening = 0.25", 'name = "lamb"'), "no flow models it"),
        ("model = ", "is not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "flow.toml"
    path.write_text(change)
    with pytest.raises(ValueError, match=message):
        read_config(path)
    with pytest.raises(ValueError, match="no configuration file"):
        read_config(tmp_path / "absent.toml")
