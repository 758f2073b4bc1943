"""The table of wrong derivatives is what the script in the documentation shows, and the documentation says the same."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from neuralmechanics.functional.derivatives.torch_faults import FAULTS

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wrong_derivatives", DOCS / "wrong_derivatives.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.operation)
def test_each_operation_is_wrong_from_its_order_on(script: ModuleType, fault: object) -> None:
    fused, plain = script.OPERATIONS[fault.operation]
    assert script.wrong_from(fault.operation) == fault.order
    right = script.from_differences(fused)
    assert script.nested(plain) == pytest.approx(right, rel=1e-5)
    assert script.nested(fused)[: fault.order - 1] == pytest.approx(right[: fault.order - 1], rel=1e-5)


def test_the_page_lists_the_same_operations_and_orders() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d) \|", (DOCS / "theory" / "derivatives.md").read_text(), re.MULTILINE)
    assert {(name, int(order)) for name, order in rows} == {(fault.operation, fault.order) for fault in FAULTS}


def test_the_script_prints_its_table() -> None:
    answer = subprocess.run(
        [sys.executable, str(DOCS / "wrong_derivatives.py"), "weight_norm"], capture_output=True, text=True, check=True
    )
    assert "weight_norm: wrong from order 2" in answer.stdout
