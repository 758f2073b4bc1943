"""Each record arrives, with the numbers of `Run.data`, in the real TensorBoard, W&B (offline) and MLflow (local)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning
from neuralmechanics.monitor.trackers import MlflowTracker, TensorBoardTracker, Tracker, WandbTracker

Curves = dict[str, dict[int, float]]
STEPS = 12


def train(training: Any, trackers: list[Tracker], **options: Any) -> nm.Run:
    with nm.Monitor(
        training.model, optimizer := training.sgd(momentum=0.9), training.symmetries, every=4, trackers=trackers,
        **options,
    ) as monitor:  # fmt: skip
        training.run(optimizer, range(STEPS), lambda step, loss: monitor.log(loss=loss, gnorm=step))
    return monitor.run


def expected(run: nm.Run) -> Curves:
    """The same numbers, written out from the run's data."""
    data, out = run.data, Curves()
    drift = np.abs(data["charge"] - data["charge"][0]) / data["scale"]
    for kind in dict.fromkeys(data["kind"].values):
        chosen = data["kind"].values == kind
        out[f"{kind}/drift"] = dict(zip(data["step"].values, drift[:, chosen].max("charge").values, strict=True))
        for law in data["law"].values:
            error = np.abs(data["predicted"].sel(law=law) - data["charge"]) / data["scale"]
            rows = error[:, chosen].values
            if np.isfinite(rows).any():
                out[f"{kind}/error/{law}"] = dict(zip(data["step"].values, rows.max(axis=1), strict=True))
    for family in dict.fromkeys(data["family"].values):
        chosen = data["family"].values == family
        charge, moved = data["charge"][:, chosen].mean("charge"), drift[:, chosen].max("charge")
        out[f"{family}/charge"] = dict(zip(data["step"].values, charge.values, strict=True))
        out[f"{family}/drift"] = dict(zip(data["step"].values, moved.values, strict=True))
    turned = run.turning()
    for layer in dict.fromkeys(turned["layer"].values):
        mine = turned["layer"].values == layer
        norms = np.sqrt(data["charge"].values[:, data["kind"].values == "scale"][:, mine])
        angles = turned["rotation"].values[:, mine]
        out[f"{layer}/norm"] = dict(zip(data["step"].values, np.median(norms, axis=1), strict=True))
        out[f"{layer}/rotation"] = dict(zip(turned["step"].values, np.median(angles, axis=1), strict=True))
    for name in ("loss", "gnorm"):
        logged = data[name].values
        out[f"logged/{name}"] = {s: v for s, v in zip(data["step"].values, logged, strict=True) if np.isfinite(v)}
    return out


def assert_same(curves: Mapping[str, Mapping[int, float]], right: Curves, digits: float = 1e-14) -> None:
    assert set(curves) == set(right)
    for name, points in right.items():
        assert list(curves[name]) == list(points), name
        assert np.allclose(list(curves[name].values()), list(points.values()), rtol=digits, atol=digits), name


class Kept:
    """The simplest tracker."""

    def __init__(self) -> None:
        self.curves: Curves = {}
        self.closed = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, {})[step] = value

    def close(self) -> None:
        self.closed += 1


def test_a_tracker_is_shown_the_numbers_of_the_run(training: Any, store: Path) -> None:
    kept = Kept()
    run = train(training, [kept], store=store)
    assert list(run.data["step"].values) == [0, 4, 8, 12]
    assert_same(kept.curves, expected(run))
    assert kept.closed == 1


def test_a_charge_that_is_no_number_has_an_infinite_error_and_a_withheld_law_no_curve(training: Any) -> None:
    kept, optimizer = Kept(), training.sgd()

    def train_into_nan() -> None:
        with nm.Monitor(training.model, optimizer, training.symmetries, every=1, laws=["exact"], trackers=[kept]):
            training.run(optimizer, range(2))
            training.model[0].weight.data[0, 0] = float("nan")
            training.run(optimizer, range(2, 4))

    with pytest.warns(MonitorWarning, match="no finite numbers"):
        train_into_nan()
    assert kept.curves["rescale/error/exact"][1] < 1e-12
    assert kept.curves["rescale/error/exact"][4] == float("inf")
    assert np.isnan(kept.curves["rescale/drift"][4])


def test_a_law_that_does_not_speak_has_no_curve(training: Any) -> None:
    kept = Kept()
    adam = torch.optim.Adam(training.model.parameters())
    with pytest.warns(MonitorWarning, match="no closed law"), nm.Monitor(
        training.model, adam, training.symmetries, every=1, trackers=[kept]
    ):  # fmt: skip
        training.run(adam, range(2))
    assert {name for name in kept.curves if "error" in name} == {
        "rescale/error/identity",
        "translation/error/identity",
    }


def test_a_tracker_that_fails_is_said_once_and_left_out(training: Any, store: Path) -> None:
    class Full(Kept):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            if step >= 4:
                raise ConnectionError("the server is away")
            super().log(step, values)

    kept, full = Kept(), Full()
    with pytest.warns(MonitorWarning, match="Full failed at step 4 \\(ConnectionError: the server is away\\)") as said:
        run = train(training, [full, kept], store=store)
    assert len(said) == 1
    assert list(full.curves["rescale/drift"]) == [0]
    assert full.closed == 0
    assert_same(kept.curves, expected(run))
    assert ["Full failed" in warning.message for warning in run.warnings] == [True]


def test_strict_raises_what_a_tracker_raises(training: Any) -> None:
    class Broken(Kept):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            raise KeyError("x")

    with pytest.raises(KeyError):
        train(training, [Broken()], strict=True)


def test_training_is_the_same_to_the_bit_with_trackers(make: Any) -> None:
    one, other = make(), make()
    optimizer = one.sgd(momentum=0.9)
    alone = one.run(optimizer, range(STEPS))
    train(other, [Kept()])
    assert all((p == q).all() for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert len(alone) == STEPS


def test_tensorboard(training: Any, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train(training, [TensorBoardTracker(tmp_path / "events")])
    events = accumulator.EventAccumulator(str(tmp_path / "events"), size_guidance={"scalars": 0}).Reload()
    curves = {
        tag.removeprefix("neuralmechanics/"): {e.step: e.value for e in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    assert_same(curves, expected(run), digits=1e-6)  # event files hold float32


def test_tensorboard_writer_of_the_user_stays_open(training: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    train(training, [TensorBoardTracker(writer)])
    assert writer.file_writer is not None  # close() sets it to None
    writer.close()


def test_wandb_offline(training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(ValueError, match=r"wandb\.init"):
        WandbTracker()
    settings = {"console": "off", "x_service_wait": 240, "init_timeout": 240}  # seconds, on a busy machine
    run = wandb.init(mode="offline", dir=str(tmp_path), project="charges", settings=settings)
    try:
        run.log({"mine": 1.0}, step=3)  # the loop's own count is not disturbed
        recorded = train(training, [WandbTracker()])
        run.log({"mine": 2.0}, step=40)
    finally:
        run.finish()
        wandb.teardown()  # waits for its process, which writes the file
    rows = _wandb_rows(tmp_path)
    assert [row["mine"] for row in rows if "mine" in row] == [1.0, 2.0]
    curves: Curves = {}
    for row in rows:
        step = row.get("neuralmechanics/step")
        for name, value in row.items():
            if step is not None and name.startswith("neuralmechanics/") and name != "neuralmechanics/step":
                curves.setdefault(name.removeprefix("neuralmechanics/"), {})[int(step)] = value
    assert_same(curves, expected(recorded))


def _wandb_rows(folder: Path) -> list[dict[str, float]]:
    """The history in the file that an offline run leaves behind."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    rows = []
    for data in _leveldb_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def _leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 kB; each part has checksum, length, type (full, first, …, last)."""
    place, parts = 7, b""  # behind the file's own header
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_mlflow_local(training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with pytest.raises(ValueError, match=r"mlflow\.start_run"):
        MlflowTracker()
    client = mlflow.MlflowClient(f"file://{tmp_path / 'mlruns'}")
    known = client.create_run(client.create_experiment("charges")).info.run_id
    tracker = MlflowTracker(known, client)
    run = train(training, [tracker])
    right = {tracker._name(name): points for name, points in expected(run).items()}
    curves = {
        name: {m.step: m.value for m in client.get_metric_history(known, name)}
        for name in client.get_run(known).data.metrics
    }
    assert_same(curves, right)
    tracker.log(13, {"a→b": 1.0, "a←b": 2.0, "x" * 400: 3.0, "x" * 401: 4.0, "deep//name": float("inf")})
    later = {m: v for m, v in client.get_run(known).data.metrics.items() if m not in curves}
    assert sorted(later.values()) == [1.0, 2.0, 3.0, 4.0, float("inf")]
