"""From a training to its errors and its page, through the command line alone."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pandas as pd
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


def test_demo_prints_and_writes_everything_it_names(tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    from neuralmechanics.experiments import demo

    whole = demo.demo_config
    monkeypatch.setattr(demo, "demo_config", lambda model: replace(whole(model), steps=20))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    assert "total: 65 translation, 0 scale, 160 rescale, 0 linear" in out
    assert "total: 161 translation, 96 scale, 160 rescale, 0 linear" in out
    for law in ("exact", "identity", "modified flow", "modified loss", "gradient flow"):
        assert law in out
    written = [Path(line.strip()) for line in out.partition("Written:")[2].splitlines() if line.strip()]
    assert len(written) == 10
    assert all(path.exists() for path in written)
    assert {path.name for path in written} >= {"report.html", "parameters_and_charges.png", "errors_over_time.png"}
    _a_demo_replaces_itself_and_nothing_else(tmp_path / "demo", capsys)


def _a_demo_replaces_itself_and_nothing_else(demo, capsys):
    """Run again: the sealed demo is replaced. With a file of the user's, or a byte of his, nothing is touched."""
    before = (demo / "vgg-small" / "run.json").read_bytes()  # it holds a name of the run's own
    assert main(["demo", "--out", str(demo)]) == 0
    assert (demo / "vgg-small" / "run.json").read_bytes() != before
    folder = demo / "vgg-small-bn"
    notes, page = folder / "checkpoints" / "notes.txt", folder / "report.html"
    whole = page.read_bytes()
    changes = [
        ("'checkpoints/notes.txt' is not of this command", lambda: notes.write_text("mine"), notes.unlink),
        ("'report.html' was changed", lambda: page.write_bytes(b"mine"), lambda: page.write_bytes(whole)),
        ("'report.html' is missing", page.unlink, lambda: page.write_bytes(whole)),
        ("in it is no file", lambda: notes.symlink_to(page), notes.unlink),
        ("not to its end", (folder / ".sealed.json").unlink, lambda: None),
    ]
    for message, change, undo in changes:
        change()
        state = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert main(["demo", "--out", str(demo)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "is not replaced" in error
        assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == state
        undo()


def test_find_explains_each_parameter(capsys):
    assert main(["find", "mlp-bn", "--per-parameter"]) == 0
    assert "linear1.bias  covered: translation: linear1.bias, scale: linear1\n" in capsys.readouterr().out


def test_theory_figures_by_name(tmp_path, capsys):
    assert main(["figures", "fig3", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "fig3.png")]
    assert (tmp_path / "fig3.png").stat().st_size > 1000
    assert main(["figures", "fig9", "--out", str(tmp_path)]) == 2
    assert "unknown figure 'fig9'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["finished", "finished"], 0),
        (["finished, one shard is damaged"], 0),
        (["finished", "no such data"], 1),
        (["missing"], 1),
    ],
)
def test_a_sweep_that_failed_ends_with_a_status_of_its_own(states, status, tmp_path, capsys, monkeypatch):
    from neuralmechanics.experiments import sweep

    table = pd.DataFrame({"run": [f"run{k}" for k in range(len(states))], "status": states})
    monkeypatch.setattr(sweep, "run_sweep", lambda *given, **named: table)
    (tmp_path / "grid.toml").write_text('[base]\nmodel = "mlp"\n[grid]\nseed = [1]\n')
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "out")]) == status
    told = capsys.readouterr()
    assert "run0" in told.out
    assert ("did not finish" in told.err) == bool(status)


@pytest.mark.slow
def test_a_figure_of_trainings_makes_them_once(tmp_path, capsys, monkeypatch):
    from neuralmechanics.experiments import paper
    from neuralmechanics.experiments.sweep import running

    monkeypatch.setattr(running, "run_on_ray", lambda sweep, points, *rest: run_here(sweep, points))
    monkeypatch.setitem(paper._SIZES, "smoke", paper_size(paper))
    trained = []

    def run_here(sweep, points):
        from neuralmechanics.experiments import train

        for point in points:
            train(point.config, sweep.folder(point))
            trained.append(point.name)

    assert (
        main(["figures", "phase", "fig1", "fig5", "sums", "--dry-run", "--workers", "3", "--out", str(tmp_path)]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"9 runs in {tmp_path / 'runs' / 'smoke'}, 0 of them finished"
    assert [line.split()[:4] for line in lines[2:-1]] == [
        ["mlp-bn", "digits", "32", "1"], ["fc-bn", "digits", "32", "3"], ["mlp-bn", "digits", "64", "3"],
        ["mlp", "digits", "64", "2"],
    ]  # fmt: skip
    assert re.fullmatch(r"together \S+ hours with 3 at a time, \S+ GB on disk .* GB of memory at once", lines[-1])
    assert not (tmp_path / "runs").exists()
    assert trained == []
    for _ in range(2):
        assert main(["figures", "phase", "fig1", "fig5", "sums", "--out", str(tmp_path)]) == 0
    paths = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert paths == {f"{name}.{end}" for name in ("phase", "fig1", "fig5", "sums") for end in ("png", "csv")}
    assert len(trained) == 9  # and not 4 + 1 + 4 + 4
    rows = list(csv.DictReader((tmp_path / "phase.csv").read_text().splitlines()))
    assert {row["weight_decay"] for row in rows} == {"0.0", "0.001", "0.01", "0.1"}


def paper_size(paper):
    """The smoke size with still fewer steps."""
    from dataclasses import replace

    return replace(paper._SIZES["smoke"], plain="mlp", normed="mlp-bn", length={"steps": 10})


def test_a_flow_comparison_from_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("flow.toml").write_text('model = "mlp"\nstepss = 3\n')
    assert main(["flow", "flow.toml"]) == 2
    assert "stepss" in capsys.readouterr().err


def test_check_and_probe_agree_on_a_small_network(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))\n"
    )
    target = ["small:make", "--input-shape", "5", "--classes", "3"]
    assert main(["check", *target, "--batch-size", "40"]) == 0
    out = capsys.readouterr().out
    assert "3 exact, 0 approximate, 0 broken on 2 batches" in out
    assert "only probed" not in out
    rows = [line for line in out.partition("on random inputs")[2].splitlines() if "True" in line]
    assert len(rows) == 3
    assert all(row.split()[-1] == "0" for row in rows)
    # The columns and the bias of the last layer; the hidden ReLU units.
    assert main(["count", *target]) == 0
    assert "exactly 8" in capsys.readouterr().out
