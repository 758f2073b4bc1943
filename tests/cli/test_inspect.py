"""What `check`, `count` and `lint` pass on: batches, the flow that is counted, the optimiser that is asked about."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neuralmechanics import diagnostics, symmetry
from neuralmechanics.cli import inspect, main

counting = importlib.import_module("neuralmechanics.diagnostics.counting.counting")


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Six examples, whatever is asked for."""
    batch = torch.arange(6.0)[:, None], torch.arange(6)
    found = SimpleNamespace(model="model", batch=batch, loss="loss", asked=[])

    def resolve(target: Any, **_: Any) -> SimpleNamespace:
        found.asked.append(target.batch_size)
        return found

    monkeypatch.setattr(inspect, "resolve", resolve)
    return found


def test_symmetries_of_the_first_batch_are_checked_on_all(
    resolved: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def find(model: Any, batch: Any, loss: Any) -> str:
        seen.append([len(part) for part in batch])
        return "symmetries"

    def check(symmetries: Any, model: Any, loss: Any, batches: Any) -> SimpleNamespace:
        seen.append((symmetries, model, loss, [batch[1].tolist() for batch in batches]))
        return SimpleNamespace(ok=True)

    monkeypatch.setattr(symmetry, "find_symmetries", find)
    monkeypatch.setattr(diagnostics, "check_symmetries", check)
    assert main(["check", "mlp", "--batch-size", "2", "--batches", "3", "--no-probe"]) == 0
    assert resolved.asked == [6]
    assert seen == [[2, 2], ("symmetries", "model", "loss", [[0, 1], [2, 3], [4, 5]])]


@pytest.mark.parametrize("flow", ["gradient_flow", "weight_decay", "heavy_ball", "sign_descent"])
def test_laws_of_the_flow_that_was_named_are_counted(
    flow: str, resolved: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def count(model: Any, batch: Any, loss: Any, *, optimizer: str, progress: Any) -> str:
        asked.append((model, batch, loss, optimizer))
        return "count"

    monkeypatch.setattr(counting, "count_laws", count)
    assert main(["count", "mlp", "--optimizer", flow]) == 0
    assert asked == [("model", resolved.batch, "loss", flow)]


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_lint_is_told_of_the_optimiser(
    ok: bool, status: int, resolved: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def lint(model: Any, batch: Any, loss: Any, optimizer: Any) -> SimpleNamespace:
        asked.append((optimizer.name, optimizer.weight_decay))
        return SimpleNamespace(ok=ok)

    monkeypatch.setattr(diagnostics, "lint", lint)
    assert main(["lint", "mlp", "--optimizer.name", "adamw", "--optimizer.weight-decay", "0.25"]) == status
    assert asked == [("adamw", 0.25)]
