"""Accelerate, Lightning and Transformers over two processes: the record of one process, resumed ones included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.monitor.processes.group import together
from tests.monitor.trainers.networks import BATCHES, plain_run
from tests.monitor.trainers.sharing import EVERY, with_accelerate, with_lightning, with_transformers

import neuralmechanics as nm

pytest.importorskip("accelerate")
pytest.importorskip("lightning.pytorch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

Work = Callable[..., dict[str, Any]]
NAMES = ("charge", "predicted", "residual", "outside", "learning_rate", "momentum", "weight_decay")
EPOCHS = 3


def assert_of_one_process(answers: list[dict[str, Any]], folder: Path, extra: tuple[int, ...] = ()) -> None:
    """Weights, and every number at the records that one process has; `extra`: records forced by a checkpoint."""
    model, right = plain_run(EPOCHS * BATCHES, every=EVERY)
    steps = sorted({*right.data["step"].values.tolist(), *extra})
    for answer in answers:
        assert (answer["step"], answer["failure"], answer["said"]) == (EPOCHS * BATCHES, "None", [])
        for name, parameter in model.named_parameters():
            assert np.allclose(answer["weights"][name], parameter.detach().numpy(), rtol=0, atol=1e-14), name
        data = answer["data"]
        assert list(data["step"]) == steps
        rows = [steps.index(step) for step in right.data["step"].values]
        for name in NAMES:
            there = data[name][:, rows] if name == "predicted" else data[name][rows]
            assert np.allclose(there, right.data[name], rtol=1e-12, atol=1e-13, equal_nan=True), name
    run = nm.open_run(folder / "run")
    assert run.verify()["sound"].all()
    assert run.errors(by="kind").query("law in ['exact', 'identity']")["max_error"].max() < 1e-12


@pytest.mark.parametrize("work", [with_accelerate, with_lightning, with_transformers])
def test_the_record_is_that_of_one_process(work: Work, tmp_path: Path) -> None:
    assert_of_one_process(together(2, work, tmp_path, tmp_path, None, False, EPOCHS), tmp_path)


@pytest.mark.parametrize(
    ("work", "stop", "epochs"), [(with_accelerate, 7, EPOCHS), (with_lightning, 6, 1), (with_transformers, 7, 2)]
)
def test_a_resumed_one_is_as_uninterrupted(work: Work, stop: int, epochs: int, tmp_path: Path) -> None:
    """From a checkpoint, with steps after it that are lost where the trainer can be stopped there."""
    together(2, work, tmp_path, tmp_path, stop, False, epochs)
    (tmp_path / "meeting").unlink(missing_ok=True)
    lost = sorted((tmp_path / "out").glob("checkpoint-*"))
    for folder in lost:
        if not folder.name.endswith(f"-{stop}"):
            folder.rename(tmp_path / folder.name)
    answers = together(2, work, tmp_path, tmp_path, None, True, EPOCHS)
    assert_of_one_process(answers, tmp_path, (stop,))
