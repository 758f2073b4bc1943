"""Each of the thirty tasks that the how-tos promise leads to code that the tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.pages import DOCS, PAGES, Block, blocks, is_executable
from tests.test_gallery import EXAMPLES

PAGE = DOCS / "howto" / "index.md"
ROW = re.compile(r"^\| (.+?) \| \[[^\]]+\]\(([^)]+)\) \|$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _tasks() -> list[tuple[str, str]]:
    """The rows of the first two tables: what is wanted, and the address."""
    promised, more = PAGE.read_text().split("## And more")
    assert ROW.findall(more)
    return ROW.findall(promised)


def _anchor(heading: str) -> str:
    """As GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(page: Path, anchor: str) -> list[Block]:
    """The blocks below the heading, up to the next one."""
    text = page.read_text()
    # What stands in a block is no heading.
    outside = re.sub(r"^(`{3,}).*?^\1$", lambda block: re.sub(r"[^\n]", " ", block[0]), text, flags=re.M | re.S)
    starts = {_anchor(found[1]): text.count("\n", 0, found.start()) + 1 for found in HEADING.finditer(outside)}
    assert anchor in starts, f"{page.name} has no heading #{anchor}; it has {', '.join(starts)}"
    ends = [line for line in starts.values() if line > starts[anchor]]
    return [block for block in blocks(page) if starts[anchor] < block.line < min(ends, default=10**9)]


def test_the_tasks_are_thirty_and_each_is_named_once() -> None:
    tasks = _tasks()
    assert len(tasks) == 30
    assert len({task for task, _ in tasks}) == len({address for _, address in tasks}) == 30


@pytest.mark.parametrize(("task", "address"), _tasks(), ids=[address for _, address in _tasks()])
def test_a_task_leads_to_code_that_runs(task: str, address: str) -> None:
    target, _, anchor = address.partition("#")
    page = (PAGE.parent / target).resolve()
    if page.parent.name == "gallery":
        assert page.stem in {example.stem for example in EXAMPLES}
        return
    assert page in PAGES
    shown = _section(page, anchor) if anchor else list(blocks(page))
    assert any(map(is_executable, shown)), f"{task}: nothing runs in {address}"
