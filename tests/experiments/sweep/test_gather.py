"""The table of a sweep: each law's largest error over all families, and what is missing or failed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuralmechanics import monitor
from neuralmechanics.experiments import TrainConfig
from neuralmechanics.experiments.config import RESULT
from neuralmechanics.experiments.sweep.gathering import gather, gather_errors
from neuralmechanics.experiments.sweep.grid import Point, Sweep
from neuralmechanics.experiments.sweep.worker import FAILED

ERRORS = pd.DataFrame(
    [
        ("a", "exact", 1e-9, pd.NA),
        ("b", "exact", 3e-7, 40),
        ("c", "exact", 2e-8, 12),
        ("a", "modified_flow", 0.5, pd.NA),
    ],
    columns=["family", "law", "max_error", "nonfinite_step"],
).astype({"nonfinite_step": "Int64"})


def test_a_row_holds_the_worst_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tuple(Point({"seed": seed}, TrainConfig(seed=seed)) for seed in range(4))
    sweep = Sweep(points, tmp_path)
    for seed in (0, 1, 3):
        sweep.folder(points[seed]).mkdir(parents=True)
    for seed in (0, 3):
        content = {"loss": 0.25 + seed, "top1": 0.5, "top5": 1.0, "steps": 8, "seconds": 2.0, "steps_timed": 8}
        (sweep.folder(points[seed]) / RESULT).write_text(json.dumps(content))
    (sweep.folder(points[0]) / "run.json").write_text("{}")
    (sweep.folder(points[1]) / FAILED).write_text(json.dumps({"error": "the loss is nan after step 3"}))
    opened: list[Path] = []

    def open_run(folder: Path) -> Any:
        opened.append(folder)
        return SimpleNamespace(errors=ERRORS.copy)

    monkeypatch.setattr(monitor, "open_run", open_run)
    table = gather(sweep)
    assert table["seed"].tolist() == [0, 1, 2, 3]
    assert table["status"].tolist() == ["finished", "the loss is nan after step 3", "missing", "finished"]
    assert table["error:exact"].tolist() == pytest.approx([3e-7, np.nan, np.nan, np.nan], nan_ok=True)
    assert table["error:modified_flow"].tolist() == pytest.approx([0.5, np.nan, np.nan, np.nan], nan_ok=True)
    assert table["nonfinite_step"].tolist() == pytest.approx([12, np.nan, np.nan, np.nan], nan_ok=True)
    assert table["loss"].tolist() == pytest.approx([0.25, np.nan, np.nan, 3.25], nan_ok=True)
    assert "steps_timed" not in table
    errors = gather_errors(sweep)
    assert errors["seed"].tolist() == [0] * len(ERRORS)
    assert errors.drop(columns="seed").equals(ERRORS)
    assert set(opened) == {sweep.folder(points[0])}


def test_a_run_that_is_damaged_says_so_beside_its_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tuple(Point({"seed": seed}, TrainConfig(seed=seed)) for seed in range(2))
    sweep = Sweep(points, tmp_path)
    for point in points:
        sweep.folder(point).mkdir(parents=True)
        (sweep.folder(point) / RESULT).write_text(json.dumps({"loss": 0.25}))
        (sweep.folder(point) / "run.json").write_text("{}")

    def open_run(folder: Path) -> Any:
        if folder == sweep.folder(points[0]):
            raise ValueError("shard 3 is damaged")
        return SimpleNamespace(errors=ERRORS.copy)

    monkeypatch.setattr(monitor, "open_run", open_run)
    table = gather(sweep)
    assert table["status"].tolist() == ["finished, shard 3 is damaged", "finished"]
    assert table["loss"].tolist() == [0.25, 0.25]
    assert gather_errors(sweep)["seed"].tolist() == [1] * len(ERRORS)
