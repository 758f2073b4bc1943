"""The faults stay plantable: each place stands once in the source, what is put there compiles, its tests are there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .catalogue import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    text = (ROOT / "src" / "neuralmechanics" / fault.file).read_text()
    assert text.count(fault.before) == 1
    changed = text.replace(fault.before, fault.after)
    assert changed != text
    compile(changed, fault.file, "exec")
    for test in fault.tests:
        assert (ROOT / test).exists(), test


def test_they_are_many_and_of_every_kind() -> None:
    areas = Counter(fault.area for fault in FAULTS)
    assert len(FAULTS) >= 40
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert set(areas) == {"laws", "slices", "optimizers", "symmetry", "store", "flows", "experiments", "report"}
    assert min(areas.values()) >= 4
