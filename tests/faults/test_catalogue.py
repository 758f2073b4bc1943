"""The faults stay plantable: each place stands once in the source, what is put there compiles, its tests are there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .catalogue import FAULTS
from .fault import Fault
from .planting import PACKAGE, ROOT, Copy, changed, place_of


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    text = (ROOT / "src" / PACKAGE / fault.file).read_text()
    wrong = changed(fault, text)
    assert wrong != text
    compile(wrong, fault.file, "exec")
    for test in fault.tests:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not function or f"def {function.partition('[')[0]}(" in (ROOT / path).read_text(), test


def test_they_are_many_and_of_every_kind() -> None:
    areas = Counter(fault.area for fault in FAULTS)
    assert len(FAULTS) >= 100
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    lower = {"laws", "slices", "optimizers", "symmetry", "diagnostics", "flows"}
    assert set(areas) == lower | {"store", "monitor", "rewrite", "experiments", "report"}
    assert min(areas.values()) >= 4


def test_a_fault_is_in_the_copy_while_it_is_planted_and_nowhere_else(tmp_path: Path) -> None:
    """One wrong line in one place; afterwards all is as it was, the time of the file included."""
    fault = Fault("laws", "a sign", "laws.py", "+ 1", "- 1", ())
    file = tmp_path / "from" / PACKAGE / "laws.py"
    file.parent.mkdir(parents=True)
    file.write_text("def more(x):\n    return x + 1\n")
    copy = Copy.of(tmp_path / "from", tmp_path / "to")
    copied = tmp_path / "to" / PACKAGE / "laws.py"
    sound = copied.stat()
    assert place_of(fault, copy.source) == "laws.py:2"
    with copy.planted(fault):
        assert copied.read_text() == "def more(x):\n    return x - 1\n"
    assert (copied.read_text(), copied.stat().st_mtime_ns) == (file.read_text(), sound.st_mtime_ns)
    assert file.read_text() == "def more(x):\n    return x + 1\n"
    twice = Fault("laws", "two places", "laws.py", "x", "y", ())
    with pytest.raises(ValueError, match=r"two places: laws\.py holds its place 2 times, not once"):
        changed(twice, file.read_text())
