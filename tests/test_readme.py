"""Every page does what it shows: code runs as it stands, sessions and commands print what is printed, links lead on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.pages import DOCS, PAGES, ROOT, Block, blocks, execute, forget_modules, is_executable

from neuralmechanics.experiments import TrainConfig, load_config
from neuralmechanics.experiments.sweep import load_sweep

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)[^)]*\)")
# Pages that load trainers, open process groups, compile, or train many networks.
SLOW = frozenset(
    f"docs/{page}.md"
    for page in (
        "guides/engineer",
        "guides/theorist",
        "howto/accelerate",
        "howto/compiled_and_quantised",
        "howto/distributed",
        "howto/lightning",
        "howto/own_data",
        "howto/own_model",
        "howto/reading_a_run",
        "howto/sweeps",
        "howto/testing",
        "howto/transformers",
        "maps",
        "theory/flows",
    )
)


def name(page: Path) -> str:
    """The page below the root, as an address."""
    return page.relative_to(ROOT).as_posix()


def executable() -> list[object]:
    """Pages with something to execute; the slow ones are marked."""
    pages = [page for page in PAGES if any(map(is_executable, blocks(page)))]
    marks = [[pytest.mark.slow] if name(page) in SLOW else [] for page in pages]
    return [pytest.param(page, id=name(page), marks=mark) for page, mark in zip(pages, marks, strict=True)]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # inside Lightning
@pytest.mark.parametrize("page", executable())
def test_a_page_does_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            execute(page, tmp_path, lambda: capsys.readouterr().out)
        finally:
            forget_modules(tmp_path)


def test_slow_pages_exist() -> None:
    assert {name(page) for page in PAGES} >= SLOW


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        path = page.parent / target
        if path.parent.name == "gallery":  # made by the build, from an example of the same name
            path = DOCS / "examples" / ("GALLERY_HEADER.rst" if path.stem == "index" else f"{path.stem}.py")
        assert path.exists(), f"{name(page)} links to {target}"


def test_the_readme_keeps_its_promise_of_ten_lines() -> None:
    (snippet,) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert len([line for line in snippet.text.splitlines() if line.strip()]) <= 11


def test_every_documented_command_exists() -> None:
    documented = re.findall(
        r"^\| `neuralmechanics ([a-z]+)", (DOCS / "reference" / "command_line.md").read_text(), re.MULTILINE
    )
    helped = subprocess.run(
        [sys.executable, "-m", "neuralmechanics.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert documented
    offered = re.search(r"\{([a-z,\s]+)\}", helped.stdout)
    assert offered is not None
    assert set(documented) <= set(re.split(r"[,\s]+", offered.group(1)))


def _toml(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "toml"]


def test_documented_configurations_load(tmp_path: Path) -> None:
    page = DOCS / "reference" / "command_line.md"
    paths = [tmp_path / "training.toml", tmp_path / "sweep.toml"]
    for path, block in zip(paths, _toml(page), strict=True):
        path.write_text(block.text)
    assert load_config(paths[0], TrainConfig).optimizer.momentum == 0.9
    assert len(load_sweep(paths[1]).points) == 2 * 2 * 3
