"""Every Python block of the README and of the documentation runs as it stands, page by page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)[^)]*\)")
WITH_CODE = tuple(page for page in PAGES if BLOCK.search(page.read_text()))


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_pasted_code_works(page: Path, tmp_path: Path) -> None:
    code = "import torch\ntorch.manual_seed(0)\n" + "\n".join(BLOCK.findall(page.read_text()))
    command = [sys.executable, "-W", "error", "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert answer.returncode == 0, answer.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_keeps_its_promise_of_ten_lines() -> None:
    (snippet,) = BLOCK.findall((ROOT / "README.md").read_text())
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 11
