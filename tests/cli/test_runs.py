"""From a training to its errors and its page, through the command line alone."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest

from neuralmechanics.cli import main
from neuralmechanics.monitor import open_run

TRAIN = [
    *("train", "--model", "mlp-bn", "--steps", "30", "--batch-size", "32", "--record.every", "5"),
    *("--optimizer.momentum", "0.9", "--optimizer.learning-rate", "0.02", "--optimizer.weight-decay", "1e-3"),
    *("--record.residuals", "--record.metrics", "performance", "weights-subset", "--checkpoint-every", "10"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


def test_errors_of_every_law(run, capsys):
    assert main(["errors", str(run), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {"exact", "identity", "modified_flow", "gradient_flow"} <= {row["law"] for row in rows}
    identity = [float(row["max_error"]) for row in rows if row["law"] == "identity"]
    assert max(identity) < 1e-5
    assert main(["errors", str(run)]) == 0
    assert "translation: head.weight" in capsys.readouterr().out


def test_the_page_and_figures_are_written_and_named(run, capsys):
    assert main(["report", str(run)]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert "report.html" in {path.name for path in paths}
    assert "charges_and_laws.png" in {path.name for path in paths}
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_finished_run_resumes_to_itself_and_another_does_not(run, capsys):
    assert main([*TRAIN, "--out", str(run), "--resume"]) == 0
    assert main([*TRAIN, "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*TRAIN, "--seed", "1", "--out", str(run), "--resume"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_flipped_bit_is_a_named_shard_and_the_others_stay_readable(run, capsys, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    shard = sorted(damaged.glob("segment-*/records-*.safetensors"))[2]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 4
    shard.write_bytes(content)
    for command in ("errors", "report"):
        assert main([command, str(damaged)]) == 2
        captured = capsys.readouterr()
        assert shard.name in captured.err
        assert len(captured.err.splitlines()) == 1
        assert captured.out == ""
    rest = open_run(damaged, skip_damaged=True)
    assert 0 < rest.data.sizes["step"] < open_run(run).data.sizes["step"]


def test_find_tells_the_counts(capsys):
    assert main(["find", "mlp"]) == 0
    # theory: 64 columns and the bias of the last layer; one rescale for each hidden ReLU unit
    assert "total: 65 translation, 0 scale, 128 rescale" in capsys.readouterr().out
    assert main(["find", "vit", "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")
