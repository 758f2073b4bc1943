"""The command line: bad input is one line and status 2, the flags are what they were, help is for everyone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuralmechanics.cli import main

COMMANDS = [
    "demo",
    "find",
    "check",
    "count",
    "lint",
    "equivalent",
    "align",
    "rewrite",
    "map",
    "train",
    "errors",
    "report",
    "findings",
    "budget",
    "forecast",
    "compare",
    "figures",
    "sweep",
    "flow",
    "version",
]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must fail with status 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("neuralmechanics: error: ")
    assert "Traceback" not in lines[0]
    assert "tyro" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected one of {demo, find"),
        (["dmeo"], "dmeo"),
        (["train", "--model", "vgg61"], "unknown model 'vgg61'; the nearest known name is 'vgg1"),
        (["train", "--data", "digit"], "unknown data 'digit'; the nearest known name is 'digits'"),
        (["train", "--optimizer.learning-rate", "-0.1"], "optimizer.learning_rate must be a positive number, got -0.1"),
        (["train", "--optimizer.learning-rate", "quick"], "could not convert string to float: 'quick'"),
        (["train", "--optimizer.learnin-rate", "1"], "the nearest known option is --optimizer.learning-rate"),
        (["train", "--epochs", "0"], "epochs must be positive, got 0.0"),
        (["train", "absent.toml"], "no configuration file 'absent.toml'"),
        (["figures", "fig4", "--device", "abacus"], "device 'abacus' is none that torch knows; give cpu, cuda"),
        (["figures", "fig4", "--device", "cuda:99"], "device 'cuda:99' is not available: there are"),
        (["train", "--device", "abacus"], "device 'abacus' is not available"),
        (["train", "--restore", "absent.pt"], "no weights file 'absent.pt'"),
        (["train", "--model", "nowhere.module:make"], "cannot import 'nowhere.module'"),
        (["train", "--model", "json:nothing"], "module 'json' of model 'json:nothing' has no callable 'nothing'"),
        (["find", "vgg61"], "unknown model 'vgg61'"),
        (["find", "hf:NoSuchConfig"], "'hf:NoSuchConfig' is neither a transformers config class"),
        (["find", "mlp", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["errors", "absent"], "absent"),
        (["report", "absent"], "absent"),
        (["budget", "absent"], "absent"),
        (["compare", "absent", "other"], "absent"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(arguments, capsys)


def test_a_full_disk_is_told_with_what_helps(capsys, monkeypatch, tmp_path):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", full)
    line = refused(["figures", "fig4"], capsys)
    assert "No space left on device: make room, or write elsewhere, and give the command again" in line


def test_unknown_configuration_key(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text("[optimizer]\nlearning_rat = 0.1\n")
    line = refused(["train", "run.toml"], capsys)
    assert "unknown configuration key 'optimizer.learning_rat'" in line
    assert "nearest known key is 'optimizer.learning_rate'" in line


def test_a_batch_of_the_wrong_shape(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("narrow.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(5, 3)\n")
    for command in (["train", "--model", "narrow:make"], ["find", "narrow:make"]):
        line = refused(command, capsys)
        assert "model 'narrow:make' does not take a batch of shape (" in line
        assert "1, 8, 8)" in line


def test_a_model_of_few_classes_is_checked_with_labels_among_them(capsys, tmp_path, monkeypatch):
    """Ten are what random labels are drawn from where nothing is known; the output of the model says how many."""
    monkeypatch.chdir(tmp_path)
    text = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    Path("few_classes.py").write_text(text)
    assert main(["check", "few_classes:make", "--input-shape", "3"]) == 0
    assert "rescale" in capsys.readouterr().out


def test_flags_override_the_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(
        'model = "mlp"\nsteps = 3\nbatch_size = 16\n[optimizer]\nmomentum = 0.9\n[record]\nenabled = false\n'
    )
    assert main(["train", "run.toml", "--steps", "4", "--optimizer.nesterov", "--out", "here"]) == 0
    recorded = json.loads(Path("here/.train.json").read_text())
    assert (recorded["steps"], recorded["batch_size"]) == (4, 16)
    assert (recorded["optimizer"]["momentum"], recorded["optimizer"]["nesterov"]) == (0.9, True)
    assert "4 steps in" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"neuralmechanics {command}" in capsys.readouterr().out


def test_the_flag_list_is_frozen(capsys, monkeypatch):
    """A flag that appears, vanishes or changes its default is a decision: then edit flags.txt in the same commit."""
    monkeypatch.setenv("COLUMNS", "80")
    found = []
    for command in COMMANDS:
        main([command, "--help"])
        words = capsys.readouterr().out.replace(",", " ").split()
        flags = sorted({word for word in words if word.startswith("--") and len(word) > 2 and word[2].isalpha()})
        found += [f"{command} {flag}" for flag in flags]
    assert found == Path(__file__).with_name("flags.txt").read_text().split("\n")[:-1]


def test_the_console_entry_in_a_process_of_its_own(tmp_path):
    entry = Path(sys.executable).with_name("neuralmechanics")
    finished = subprocess.run([entry, "train", "--model", "vgg61"], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr == "neuralmechanics: error: unknown model 'vgg61'; the nearest known name is 'vgg19'\n"
    assert subprocess.run([entry, "version"], capture_output=True, text=True).stdout.count(".") >= 1
    assert list(tmp_path.iterdir()) == []
