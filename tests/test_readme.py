"""Every Python block of the README and of the documentation runs as it stands, page by page."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuralmechanics.experiments import TrainConfig, load_config
from neuralmechanics.experiments.sweep import load_sweep

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)[^)]*\)")
WITH_SESSIONS = tuple(page for page in PAGES if SESSION.search(page.read_text()))
# Blocks of a page with sessions are excerpts of the source, and held against it.
WITH_CODE = tuple(page for page in PAGES if BLOCK.search(page.read_text()) and page not in WITH_SESSIONS)


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_pasted_code_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile("\n".join(BLOCK.findall(page.read_text())), str(page), "exec"), {"__name__": "pasted"})


@pytest.mark.parametrize("page", WITH_SESSIONS, ids=lambda page: page.name)
def test_printed_sessions_are_what_python_prints(page: Path) -> None:
    session = "\n".join(SESSION.findall(page.read_text()))
    test = doctest.DocTestParser().get_doctest(session, {"__name__": "pasted"}, page.name, str(page), 0)
    printed: list[str] = []
    assert len(test.examples) > 5
    doctest.DocTestRunner(optionflags=doctest.REPORT_UDIFF).run(test, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize("page", WITH_SESSIONS, ids=lambda page: page.name)
def test_excerpts_stand_in_the_source(page: Path) -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for excerpt in BLOCK.findall(page.read_text()):
        assert excerpt in source, f"{page.name} shows what the source no longer says:\n{excerpt}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_keeps_its_promise_of_ten_lines() -> None:
    (snippet,) = BLOCK.findall((ROOT / "README.md").read_text())
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 11


def test_every_documented_command_exists() -> None:
    documented = re.findall(
        r"^\| `neuralmechanics ([a-z]+)", (ROOT / "docs" / "command_line.md").read_text(), re.MULTILINE
    )
    helped = subprocess.run(
        [sys.executable, "-m", "neuralmechanics.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert documented
    offered = re.search(r"\{([a-z,\s]+)\}", helped.stdout)
    assert offered is not None
    assert set(documented) <= set(re.split(r"[,\s]+", offered.group(1)))


def test_documented_configurations_load(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "command_line.md").read_text()
    paths = [tmp_path / "training.toml", tmp_path / "sweep.toml"]
    for path, block in zip(paths, re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL), strict=True):
        path.write_text(block)
    assert load_config(paths[0], TrainConfig).optimizer.momentum == 0.9
    assert len(load_sweep(paths[1]).points) == 2 * 2 * 3
