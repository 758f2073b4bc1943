"""The table from the paper's equations to the code: every function, command and test that it names is there."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import neuralmechanics
from neuralmechanics.experiments.config import METRICS, ScheduleConfig, ScheduleName, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "theory" / "paper.md"


def _rows() -> list[list[str]]:
    lines = PAGE.read_text().splitlines()
    start = lines.index("| paper | here | see it with | proved by |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        # A bar inside a cell is written with a backslash.
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def _is_known(token: str) -> bool:
    """A dotted name is looked at elsewhere; any other is a public name, a setting of a training, or a value of one."""
    key, _, value = token.partition(" = ")
    settings = {f.name for f in fields(TrainConfig)} | {f"schedule.{f.name}" for f in fields(ScheduleConfig)}
    values = {*METRICS, *get_args(ScheduleName), "paper"}
    if value:
        return key in settings and value.strip('"') in values
    dotted = re.match(r"(laws|flows|report)\.", token) is not None
    return dotted or token.strip('"') in values | settings or hasattr(neuralmechanics, token)


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0][:40])
def test_what_a_row_names_exists(row: list[str]) -> None:
    _, here, command, proof = row
    for name in re.findall(r"`((?:laws|flows|report)\.[\w.]+)`", here):
        module, _, attribute = f"neuralmechanics.{name}".rpartition(".")
        try:
            found = hasattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError:
            found = False
        assert found or (ROOT / "src" / Path(*f"neuralmechanics.{name}".split(".")).with_suffix(".py")).is_file(), name
    for token in re.findall(r"`([^`]+)`", here):
        assert _is_known(token), token
    for page in re.findall(r"\]\(([\w./]+\.md)\)", here):
        assert (PAGE.parent / page).is_file()
    flags = (ROOT / "tests" / "cli" / "flags.txt").read_text()
    for words in re.findall(r"`neuralmechanics (\w+)", command):
        assert f"{words} --help" in flags
    figures = set(re.findall(r"(?:fig\d|momentum|phase|schedules)", command)) if "figures" in command else set()
    from neuralmechanics.experiments.paper import PAPER_FIGURES
    from neuralmechanics.report.theory.figures import FIGURES

    assert figures <= {*PAPER_FIGURES, *FIGURES}
    proofs = re.findall(r"`(tests/[^`]+)`", proof)
    assert proofs
    for cited in proofs:
        path, _, function = cited.partition("::")
        assert (ROOT / path).exists(), path
        assert not function or f"def {function}(" in (ROOT / path).read_text(), cited


def test_every_row_is_read() -> None:
    assert len(_rows()) == 13
